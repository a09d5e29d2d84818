"""Names of configs, inheritance and what a config file may not do."""

import pytest

from maskrcnn_lib.config import config_path, get_cfg, list_configs
from maskrcnn_lib.config.files import load_yaml


def _tree(folder, **files):
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/')}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_file_wins_over_its_base_and_a_later_base_over_an_earlier(tmp_path):
    _tree(
        tmp_path,
        parts__a="A: 1\nN: {X: 1, Y: 1}\n",
        parts__b="A: 2\nN: {Y: 2, Z: 2}\n",
        top="_BASE_: [parts/a.yaml, parts/b]\nN: {Z: 3}\n",
    )
    assert load_yaml(tmp_path / "top.yaml") == {"A": 2, "N": {"X": 1, "Y": 2, "Z": 3}}


def test_base_of_a_base_is_found_relative_to_the_file_that_names_it(tmp_path):
    _tree(
        tmp_path,
        deep__root="A: 1\nB: 1\n",
        deep__middle="_BASE_: root.yaml\nB: 2\n",
        top="_BASE_: deep/middle.yaml\n",
    )
    assert load_yaml(tmp_path / "top.yaml") == {"A": 1, "B": 2}


def test_base_may_be_a_config_name(tmp_path):
    _tree(tmp_path, mine="_BASE_: torchvision/maskrcnn_resnet50_fpn\nDTYPE: bfloat16\n")
    mine = get_cfg(tmp_path / "mine.yaml")
    expected = get_cfg("torchvision/maskrcnn_resnet50_fpn", ["DTYPE", "bfloat16"])
    assert mine == expected


def test_same_base_twice_is_no_circle(tmp_path):
    _tree(
        tmp_path,
        root="A: 1\n",
        left="_BASE_: root.yaml\nB: 1\n",
        right="_BASE_: root.yaml\nC: 1\n",
        top="_BASE_: [left.yaml, right.yaml]\n",
    )
    assert load_yaml(tmp_path / "top.yaml") == {"A": 1, "B": 1, "C": 1}


@pytest.mark.parametrize("files", [{"a": "_BASE_: a\n"}, {"a": "_BASE_: b\n", "b": "_BASE_: a\n"}])
def test_circle_is_an_error_that_shows_the_way_round(tmp_path, files):
    _tree(tmp_path, **files)
    with pytest.raises(ValueError, match=r"circle: .*a\.yaml -> .*a\.yaml"):
        load_yaml(tmp_path / "a.yaml")


def test_missing_base_names_both_files(tmp_path):
    _tree(tmp_path, top="_BASE_: nowhere.yaml\n")
    with pytest.raises(FileNotFoundError) as error:
        load_yaml(tmp_path / "top.yaml")
    assert "nowhere.yaml" in str(error.value)
    assert "top.yaml" in str(error.value)


@pytest.mark.parametrize("base", ["3", "{a: b}", "[1]"])
def test_base_that_is_no_file_name_is_refused(tmp_path, base):
    _tree(tmp_path, top=f"_BASE_: {base}\n")
    with pytest.raises(ValueError, match="_BASE_ in"):
        load_yaml(tmp_path / "top.yaml")


def test_python_config_is_refused_and_not_run(tmp_path):
    witness = tmp_path / "was_run"
    path = tmp_path / "config.py"
    path.write_text(f"open({str(witness)!r}, 'w')\n")
    (tmp_path / "inherits.yaml").write_text("_BASE_: config.py\n")
    for source in (path, tmp_path / "inherits.yaml"):
        with pytest.raises(ValueError, match="Python code; a config must be YAML"):
            get_cfg(source)
    assert not witness.exists()


def test_yaml_that_would_build_python_objects_is_refused(tmp_path):
    witness = tmp_path / "was_run"
    path = tmp_path / "evil.yaml"
    path.write_text(f"DTYPE: !!python/object/apply:os.mkdir ['{witness}']\n")
    with pytest.raises(ValueError, match=r"evil\.yaml is not valid YAML"):
        get_cfg(path)
    assert not witness.exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("A: [1\n", "is not valid YAML"),
        ("A: 1\nA: 2\n", "'A' appears twice"),
        ("- 1\n- 2\n", "holds a list"),
        ("just words\n", "holds a str"),
    ],
)
def test_unusable_yaml_names_the_file_and_the_fault(tmp_path, text, message):
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        load_yaml(path)
    assert "broken.yaml" in str(error.value)


def test_empty_file_changes_nothing(tmp_path):
    path = tmp_path / "empty.yaml"
    path.write_text("# nothing\n")
    assert get_cfg(path) == get_cfg()


@pytest.mark.parametrize(
    "name",
    [
        "torchvision/maskrcnn_resnet50_fpn",
        "torchvision/maskrcnn_resnet50_fpn.yaml",
        "configs/torchvision/maskrcnn_resnet50_fpn.yaml",
    ],
)
def test_config_name_is_found_from_any_directory(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    path = config_path(name)
    assert path.name == "maskrcnn_resnet50_fpn.yaml"
    assert path.parent.name == "torchvision"


def test_name_with_a_dot_keeps_what_follows_it():
    name = "caffe2/e2e_mask_rcnn_X-152-32x8d-FPN-IN5k_1.44x_caffe2"
    assert name in list_configs()
    assert config_path(name).name == "e2e_mask_rcnn_X-152-32x8d-FPN-IN5k_1.44x_caffe2.yaml"


def test_unknown_name_names_its_neighbours():
    with pytest.raises(FileNotFoundError, match="torchvision/maskrcnn_resnet50_fpn"):
        get_cfg("torchvision/maskrcnn_resnet_50_fpn")


def test_parts_of_configs_are_not_listed_as_configs():
    names = list_configs()
    assert names == sorted(names)
    assert not [name for name in names if "_base_" in name]
