"""Draw report.png: the report that `make demo` writes, in a Chromium that is installed.

python docs/images/report.py demo/report.html
"""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

SIZE = {"width": 1280, "height": 1100}


def main() -> None:
    """Photograph the top of a report."""
    page_of = Path(sys.argv[1] if len(sys.argv) > 1 else "demo/report.html").resolve()
    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        page = browser.new_page(viewport=SIZE, color_scheme="light")
        page.goto(page_of.as_uri())
        page.get_by_role("tab", name="Information").click()
        page.screenshot(path=Path(__file__).with_suffix(".png"))
        browser.close()


if __name__ == "__main__":
    main()
