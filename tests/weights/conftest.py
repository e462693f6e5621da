import pytest


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty cache folder and lock file of the test's own."""
    monkeypatch.setenv("OPSIN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OPSIN_LOCK", str(tmp_path / "weights.lock"))
    return tmp_path / "cache"
