"""The guides' worked examples run as they stand, and what they prove holds."""

import re
import sys
import types
from pathlib import Path

import pytest
import torch
from reference import timm
from zoo import apart, randomise

import opsin
from opsin import registry
from opsin.convert import placed, rename
from opsin.families.golden import load_families
from opsin.width import narrow

ROOT = Path(__file__).parents[1]
GUIDES = sorted((ROOT / "docs").glob("*.md"))


def code(guide: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / "docs" / guide).read_text(), re.S)


@pytest.fixture
def written(monkeypatch):
    """Makes a module from a guide's text, as if the file were there; the registry forgets it afterwards."""
    load_families()  # before the copies: what is imported later would be forgotten with them
    for name in ("BUILDERS", "ABOUT"):
        monkeypatch.setattr(registry, name, dict(getattr(registry, name)))

    def module(name: str, source: str) -> types.ModuleType:
        made = types.ModuleType(name)
        made.__package__ = name.rpartition(".")[0]
        monkeypatch.setitem(sys.modules, name, made)
        exec(compile(source, name, "exec"), vars(made))
        return made

    return module


def test_the_family_guide(written):
    source, use = code("add-a-family.md")
    family = written("opsin.families.convmixer", source)
    exec(use, {})
    ours = opsin.create_model("convmixer_768_32", depth=2).double().eval()
    theirs = timm.models.convmixer.ConvMixer(768, 2, 7, 7, act_layer=torch.nn.ReLU).double().eval()
    randomise(theirs)
    ours.load_state_dict(rename(theirs.state_dict(), family.TIMM))
    x = torch.randn(2, 3, 35, 49).double()
    with torch.no_grad():
        assert apart(ours(x), theirs(x)) < 1e-9
    with torch.device("meta"):
        for name in ("convmixer_1536_20", "convmixer_768_32", "convmixer_1024_20_ks9_p14"):
            known, made = timm.create_model(name).state_dict(), opsin.create_model(name).state_dict()
            assert {ours: known[name].shape for name, ours in placed(known, family.TIMM).items()} == {
                name: t.shape for name, t in made.items()
            }


def test_the_operator_guide(written, monkeypatch):
    source, use = code("add-an-operator.md")
    operator = written("opsin.mixers.external", source).ExternalAttention
    exec(use, {})
    part, x = operator(6, 4).double(), torch.randn(2, 5, 6).double()
    seen = (x @ part.keys.weight.T).exp()
    seen = seen / seen.sum(1, keepdim=True)
    seen = seen / seen.sum(2, keepdim=True)
    assert torch.allclose(part(x), seen @ part.values.weight.T)
    order = torch.randperm(5)
    assert torch.allclose(part(x[:, order]), part(x)[:, order])
    assert narrow(part, {"memory": [3, 1]})(x).shape == x.shape
    monkeypatch.setitem(registry.OPERATORS, "external", operator)
    assert registry.operator("external(memory=16)")(6).keys.out_features == 16


def test_the_guide_to_heads():
    (use,) = code("heads.md")
    made: dict = {}
    exec(use, made)
    assert [sorted(image) for image in made["found"]] == [["boxes", "labels", "scores"]] * 2
    assert made["logits"].shape == (2, 21, 320, 320)


@pytest.mark.parametrize("guide", GUIDES, ids=lambda p: p.name)
def test_links_and_paths_lead_somewhere(guide):
    text = guide.read_text()
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (guide.parent / link).exists(), link
    made_by_the_reader = {"src/opsin/families/convmixer.py", "src/opsin/mixers/external.py"}
    for path in set(re.findall(r"`((?:src|tests|benchmarks|docs)/[\w/.-]+?)`", text)) - made_by_the_reader:
        assert (ROOT / path).exists(), path
