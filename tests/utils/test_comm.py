"""Ranks, alone and in a run of two processes."""

import json
from pickle import UnpicklingError

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from maskrcnn_lib.structures.bounding_box import BoxList
from maskrcnn_lib.utils import comm


def test_one_process_is_the_main_one_of_a_world_of_one():
    assert (comm.get_world_size(), comm.get_rank(), comm.is_main_process()) == (1, 0, True)
    assert comm.synchronize() is None


def test_alone_there_is_nothing_to_exchange():
    values = {"b": torch.tensor(2.0), "a": torch.tensor(1.0)}
    assert comm.reduce_dict(values) == {"a": torch.tensor(1.0), "b": torch.tensor(2.0)}
    assert comm.gather([1, "x"]) == [[1, "x"]]
    assert comm.all_gather({3: "x"}) == [{3: "x"}]
    assert comm.reduce_dict({}) == {}


def _report(rank, store, folder):
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    comm.synchronize()
    mine = torch.tensor(float(rank + 1))
    report = {
        "ranks": [comm.get_rank(), comm.get_world_size(), comm.is_main_process()],
        "mean": comm.reduce_dict({"loss": mine})["loss"].item(),
        "sum": comm.reduce_dict({"loss": mine}, average=False)["loss"].item(),
        "unchanged": mine.item(),
        "gathered": comm.gather({"values": [0.1 + rank] * (1000 * rank), "name": "ä" * rank}),
        "nothing": comm.gather(None),
    }
    tensors = comm.all_gather({rank: torch.full((rank, 3), 0.5, dtype=torch.float64), "n": (rank,)})
    assert [value["n"] for value in tensors] == [(0,), (1,)]
    assert torch.equal(tensors[0][0], torch.zeros(0, 3, dtype=torch.float64))
    assert torch.equal(tensors[1][1], torch.full((1, 3), 0.5, dtype=torch.float64))
    with pytest.raises(UnpicklingError, match="weights_only"):
        comm.all_gather(BoxList(torch.zeros(0, 4), (1, 1)))
    (folder / f"{rank}.json").write_text(json.dumps(report))
    dist.destroy_process_group()


def test_two_processes_know_their_ranks_and_exchange_values_of_any_size(tmp_path):
    mp.spawn(_report, args=(tmp_path / "store", tmp_path), nprocs=2)
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    assert (first["ranks"], second["ranks"]) == ([0, 2, True], [1, 2, False])
    assert (first["mean"], second["mean"]) == (1.5, 1.5)
    assert (first["sum"], second["sum"]) == (3.0, 3.0)
    assert (first["unchanged"], second["unchanged"]) == (1.0, 2.0)
    assert first["gathered"] == [
        {"values": [], "name": ""},
        {"values": [1.1] * 1000, "name": "ä"},
    ]
    assert first["nothing"] == [None, None]
    assert second["gathered"] is None
