"""What the settings of the task may be; nothing is computed here."""

from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from kexue_cli.errors import ConfigError
from kexue_cli.tasks.lamost.config import SCHEMAS, check
from kexue_cli.tasks.lamost.config_ranges import check_length, least_length


def composed(*words: str, model: str = "conv1d_res", data: str = "synthetic_spectra") -> DictConfig:
    """The groups that the check reads, with dotted words changed."""
    groups = {"task": SCHEMAS["task/lamost"], "model": SCHEMAS[f"model/{model}"]}
    groups["data"] = SCHEMAS[f"data/{data}"]
    cfg: Any = OmegaConf.create({name: OmegaConf.structured(kind) for name, kind in groups.items()})
    cfg.optim = {}
    return OmegaConf.merge(cfg, OmegaConf.from_dotlist(list(words)))  # type: ignore[return-value]


def assert_refused_by_its_key(word: str, **groups: str) -> None:
    with pytest.raises(ConfigError) as refused:
        check(composed(word, **groups))
    key = refused.value.key  # of a list that of one number, as model.dilations[1]
    assert key.partition("[")[0] == word.partition("=")[0]


@pytest.mark.parametrize("model", ["conv1d_res", "densenet1d", "inception1d"])
@pytest.mark.parametrize("data", ["synthetic_spectra", "tianchi", "fits", "sequences"])
def test_the_defaults_are_valid(model: str, data: str) -> None:
    check(composed(model=model, data=data))


@pytest.mark.parametrize(
    "word",
    [
        "data.n_spectra=0", "data.n_spectra=-5", "data.n_test=-1", "data.length=0",
        "data.length=-3", "data.data_seed=-1", "data.snr_scale=0", "data.snr_scale=nan",
        "data.class_shares=[nan,1,1,1]", "data.class_shares=[-1,1,1,1]", "data.scale=nan",
        "data.clip=nan", "task.class_shares=[1,1,1,nan]", "task.class_shares=[]",
        "task.class_shares=[0,0,0,0]", "task.class_weights=[nan,1,1,1]",
        "task.cross_entropy.batch_size=-4", "task.soft_f1.batch_size=0",
        "task.cross_entropy.lr=nan", "task.soft_f1.lr=inf", "task.cross_entropy.patience=0",
        "task.cross_entropy.patience=-1", "task.cross_entropy.steps=-1", "task.batch_size=0",
        "task.evaluate_every=0", "task.augment.noise=-1", "task.augment.noise=nan",
        "task.augment.flip=7", "task.augment.erase=2", "task.augment.stretch=nan",
        "task.augment.shift=100000", "task.augment.shift=-1", "task.augment.scale=-1",
    ],
)  # fmt: skip
def test_a_value_out_of_range_is_refused_by_its_key(word: str) -> None:
    assert_refused_by_its_key(word)


@pytest.mark.parametrize(
    ("data", "word"),
    [
        ("tianchi", "data.length=-1"),
        ("tianchi", "data.workers=-2"),
        ("fits", "data.length=0"),
        ("fits", "data.first_angstrom=9999"),
        ("fits", "data.first_angstrom=nan"),
        ("fits", "data.last_angstrom=inf"),
    ],
)
def test_a_setting_of_files_out_of_range_is_refused(data: str, word: str) -> None:
    assert_refused_by_its_key(word, data=data)


@pytest.mark.parametrize(
    ("model", "word"),
    [
        ("conv1d_res", "model.dilations=[]"),
        ("conv1d_res", "model.dilations=[-64,2]"),
        ("conv1d_res", "model.dilations=[1,-1]"),
        ("conv1d_res", "model.dilations=[0]"),
        ("conv1d_res", "model.kernel_size=0"),
        ("conv1d_res", "model.kernel_size=-3"),
        ("conv1d_res", "model.hidden=0"),
        ("conv1d_res", "model.hidden=-1"),
        ("conv1d_res", "model.dropout=nan"),
        ("conv1d_res", "model.filters=1000000"),
        ("conv1d_res", "model.filters=[16,1000000]"),
        ("conv1d_res", "model.filters=0"),
        ("conv1d_res", "model.filters=3.5"),
        ("conv1d_res", "model.filters=many"),
        ("conv1d_res", "model.filters=[]"),
        ("densenet1d", "model.growth=0"),
        ("densenet1d", "model.layers=[]"),
        ("densenet1d", "model.layers=[-1]"),
        ("densenet1d", "model.stem=-1"),
        ("densenet1d", "model.kernel_size=0"),
        ("inception1d", "model.depth=0"),
        ("inception1d", "model.downsample=0"),
        ("inception1d", "model.downsample=9999"),
        ("inception1d", "model.kernel_sizes=[]"),
        ("inception1d", "model.kernel_sizes=[-1]"),
        ("inception1d", "model.kernel_sizes=[8]"),
        ("inception1d", "model.bottleneck=0"),
        ("inception1d", "model.filters=0"),
    ],
)
def test_a_network_that_cannot_be_is_refused(model: str, word: str) -> None:
    assert_refused_by_its_key(word, model=model)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("conv1d_res", ()),
        ("conv1d_res", ("model.filters=[16,16,16]",)),
        ("densenet1d", ("model.layers=[3,3,3]",)),
        ("densenet1d", ("model.layers=[2]", "model.multi_scale=false")),
        ("inception1d", ("model.downsample=7",)),
    ],
)
def test_the_least_length_goes_through_the_network_and_one_point_less_does_not(
    model: str, words: tuple[str, ...]
) -> None:
    torch = pytest.importorskip("torch")
    from kexue_cli.config import build

    cfg = composed(*words, model=model, data="sequences")
    options: Any = OmegaConf.to_container(cfg.model, enum_to_str=True)
    options.pop("weights", None)
    least = least_length(cfg.model)
    network = build(OmegaConf.create(options), "model", length=least, n_classes=3).eval()
    assert network(torch.randn(2, least)).shape == (2, 3)
    check_length(cfg, least)
    with pytest.raises(RuntimeError):
        network(torch.randn(2, least - 1))
    with pytest.raises(ConfigError, match=f"needs spectra of {least} points or more"):
        check_length(cfg, least - 1)


@pytest.mark.parametrize("length", [2, 3, 64, 100, 127])
def test_what_is_advised_for_short_spectra_fits(length: int) -> None:
    with pytest.raises(ConfigError, match="shorten the list to") as refused:
        check_length(composed(data="sequences"), length)
    blocks = int(str(refused.value).partition("shorten the list to ")[2].split()[0])
    check_length(composed(f"model.filters={[16] * blocks}", data="sequences"), length)
    if length not in (3, 64, 100):
        return
    with pytest.raises(ConfigError) as refused:
        check_length(composed("model.layers=[1,1,1,1,1,1]", model="densenet1d"), length)
    blocks = int(str(refused.value).partition("shorten the list to ")[2].split()[0])
    check_length(composed(f"model.layers={[1] * blocks}", model="densenet1d"), length)


def test_a_grid_too_short_for_the_network_is_refused_before_anything_is_read() -> None:
    with pytest.raises(ConfigError, match=r"these have 5.*model=inception1d"):
        check(composed("data.length=5"))


@pytest.mark.parametrize(
    ("model", "length", "words"),
    [
        ("densenet1d", 63, ()),
        ("inception1d", 9, ("model.downsample=5",)),
    ],
)
def test_a_batch_norm_of_a_single_value_is_refused(
    model: str, length: int, words: tuple[str, ...]
) -> None:
    one = composed("task.soft_f1.batch_size=1", *words, model=model, data="sequences")
    with pytest.raises(ConfigError, match=r"task\.batch_size: .* batches of 2 or more"):
        check_length(one, length)
    check_length(one, 200)
    check_length(composed(*words, model=model, data="sequences"), length)


def test_spectra_of_one_point_are_refused() -> None:
    with pytest.raises(ConfigError, match="2 points or more are needed, these have 1"):
        check_length(composed(model="inception1d", data="sequences"), 1)
