"""The catalogue is whole, and every "works" in it has a callable and a proof."""

import io
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch

import opsin
from opsin import OpsinError, list_models
from opsin.blocks.residual import Bottleneck
from opsin.families.golden import macs
from opsin.papers import STATES, fixed, papers, search, table

ROOT = Path(__file__).parents[2]


def resolve(path: str):
    """The object of a dotted path: the longest module that imports, then attributes."""
    parts = path.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        try:
            found = import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for part in parts[cut:]:
            found = getattr(found, part)
        return found
    raise ImportError(path)


def test_every_paper_is_there():
    assert [paper.id for paper in papers()] == list(range(375))
    assert len({(paper.title, paper.names) for paper in papers()}) == 375
    for paper in papers():
        assert paper.state in STATES
        assert paper.title
        assert paper.names
        assert len(paper.names) <= 120


def test_states_tell_the_truth():
    for paper in papers():
        if paper.state == "works":
            assert paper.lives
            assert paper.proof
            assert not paper.missing
        else:
            assert paper.missing, paper
        assert bool(paper.lives) == (paper.state != "not yet"), paper


@pytest.mark.parametrize("path", sorted({path for paper in papers() for path in paper.lives}))
def test_what_lives_here_can_be_called(path):
    assert callable(resolve(path))


def test_every_proof_is_a_test_that_is_collected():
    proofs = sorted({proof for paper in papers() for proof in paper.proof})
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *proofs]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_search_by_words_state_and_category():
    assert [paper.id for paper in search("dual-resolution DDRNet")] == [109]
    assert {paper.category for paper in search(category="backbone")} == {"backbone"}
    by_state = [search(state=state) for state in STATES]
    assert sum(map(len, by_state)) == len(search()) == 375
    assert search("no such words") == []
    with pytest.raises(OpsinError, match="no state is called 'done'; there are works, partly, not yet"):
        search(state="done")
    with pytest.raises(OpsinError, match="no category is called 'x'"):
        search(category="x")


def test_the_table_shows_everything():
    from rich.console import Console

    console = Console(width=300, record=True, file=io.StringIO())
    console.print(table(search()))
    text = console.export_text()
    assert "375 papers" in text
    for paper in papers():
        assert paper.title.split()[0] in text
    assert "[MASK] is All You Need" in text


def test_figures_and_fixed_widths_stand_with_their_papers():
    for name in ("figures", "fixed"):
        rows = (ROOT / f"src/opsin/papers/{name}.tsv").read_text().splitlines()[1:]
        assert len(rows) == sum(len(getattr(paper, name)) for paper in papers())
    for figure in (figure for paper in papers() for figure in paper.figures):
        assert figure.paper
        assert figure.here
        assert (ROOT / figure.how.split()[0]).is_file()
    for entry in (entry for paper in papers() for entry in paper.fixed):
        assert entry.reason
        assert list_models(entry.networks)
    assert [entry.networks for entry in fixed("recnext_a3")] == ["recnext_a*"]
    assert fixed("resnet50") == []


def differing():
    return [count for paper in papers() for count in paper.counts]


@pytest.mark.parametrize("count", differing(), ids=lambda count: count.network)
def test_printed_counts_differ_for_the_reason_that_is_told(count):
    measured = opsin.facts(count.network)[count.what]
    assert abs(measured / count.printed - 1) > 0.01
    if "2^20" in count.because:
        assert measured / 2**20 == pytest.approx(count.printed / 1e6, abs=0.005)
    if "strides" in count.because:
        assert strides_moved(count.network) == pytest.approx(count.printed, abs=0.06e9)


def strides_moved(name: str) -> int:
    """Multiply-accumulates with the strides of all 3x3 convolutions in the 1x1 before them."""
    with torch.device("meta"):
        net = opsin.create_model(name).eval()
        for block in net.modules():
            if isinstance(block, Bottleneck):
                block.conv1.conv.stride, block.conv2.conv.stride = block.conv2.conv.stride, (1, 1)
        return macs(net, torch.empty(1, 3, 224, 224))
