import pytest
import torch

torch.set_num_threads(1)  # the test runner uses the cores


def pytest_addoption(parser):
    parser.addoption("--all", action="store_true", help="run the exhaustive sweep too")


def pytest_collection_modifyitems(config, items):
    if config.getoption("--all"):
        return
    slow = [item for item in items if item.get_closest_marker("slow")]
    config.hook.pytest_deselected(items=slow)
    items[:] = [item for item in items if item not in slow]


@pytest.fixture(autouse=True)
def equal_draws():
    torch.manual_seed(0)
