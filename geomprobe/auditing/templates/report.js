"use strict";
(() => {
  // Parts of the page as tabs, "Everything" first. Without this script, and in print, all are shown.
  const panels = [...document.querySelectorAll("main > section[data-tab]")];
  const list = document.createElement("div");
  list.className = "tabs";
  list.setAttribute("role", "tablist");
  list.setAttribute("aria-label", "Parts of the report");
  const tabs = ["Everything", ...panels.map((panel) => panel.dataset.tab)].map((name, index) => {
    const tab = document.createElement("button");
    tab.type = "button";
    tab.id = `tab-${index}`;
    tab.textContent = name;
    tab.setAttribute("role", "tab");
    tab.setAttribute("aria-controls", (index ? [panels[index - 1]] : panels).map((p) => p.id).join(" "));
    tab.addEventListener("click", () => choose(index));
    list.append(tab);
    return tab;
  });
  panels.forEach((panel, index) => {
    panel.setAttribute("role", "tabpanel");
    panel.setAttribute("aria-labelledby", tabs[index + 1].id);
  });

  function choose(chosen) {
    tabs.forEach((tab, index) => {
      tab.setAttribute("aria-selected", String(index === chosen));
      tab.tabIndex = index === chosen ? 0 : -1;
    });
    panels.forEach((panel, index) => panel.classList.toggle("away", chosen !== 0 && index !== chosen - 1));
  }

  list.addEventListener("keydown", (event) => {
    const at = tabs.indexOf(document.activeElement);
    const last = tabs.length - 1;
    const to = { ArrowRight: at === last ? 0 : at + 1, ArrowLeft: at ? at - 1 : last, Home: 0, End: last }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    choose(to);
    tabs[to].focus();
  });

  // A link into a part that is away brings it back before the browser goes there.
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[href^='#']");
    const target = link && document.getElementById(link.getAttribute("href").slice(1));
    const at = target ? panels.findIndex((panel) => panel.contains(target)) : -1;
    if (at >= 0 && panels[at].classList.contains("away")) choose(at + 1);
  });

  if (panels.length > 1) {
    document.querySelector("main").insertBefore(list, panels[0]);
    choose(0);
  }

  // Tables that a click, or Enter, on the head of a column sorts.
  const number = (text) => (text === "" ? NaN : Number(text));
  document.querySelectorAll("table.sortable").forEach((table) => {
    const body = table.tBodies[0];
    const heads = [...table.tHead.rows[0].cells];
    if (body.rows.length < 2) return;
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      head.setAttribute("aria-sort", "none");
      button.addEventListener("click", () => {
        const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
        const rows = [...body.rows].map((row) => {
          const cell = row.cells[column];
          return { row, key: cell.dataset.sort ?? cell.textContent.trim() };
        });
        const numeric = rows.every(({ key }) => key === "" || !Number.isNaN(Number(key)));
        rows.sort((a, b) => {
          if (a.key === "" || b.key === "") return (a.key === "") - (b.key === "");
          return sign * (numeric ? number(a.key) - number(b.key) : a.key.localeCompare(b.key, "en", { numeric: true }));
        });
        heads.forEach((other) => other.setAttribute("aria-sort", "none"));
        head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
        body.append(...rows.map(({ row }) => row));
      });
    });
  });
})();
