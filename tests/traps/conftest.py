import pytest


@pytest.fixture
def bare_hook():
    """Hook modules as one would without geomprobe: keep each output as it comes."""
    handles = []

    def listen(module):
        outputs = []
        handles.append(module.register_forward_hook(lambda m, args, out: outputs.append(out)))
        return outputs

    yield listen
    for handle in handles:
        handle.remove()
