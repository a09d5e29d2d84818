"""Ranks, alone and in a run of two processes."""

import torch.distributed as dist
import torch.multiprocessing as mp

from maskrcnn_lib.utils import comm


def test_one_process_is_the_main_one_of_a_world_of_one():
    assert (comm.get_world_size(), comm.get_rank(), comm.is_main_process()) == (1, 0, True)
    assert comm.synchronize() is None


def _report(rank, store, reports):
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    comm.synchronize()
    reports.put((comm.get_rank(), comm.get_world_size(), comm.is_main_process()))
    dist.destroy_process_group()


def test_two_processes_know_their_ranks(tmp_path):
    reports = mp.get_context("spawn").SimpleQueue()
    mp.spawn(_report, args=(tmp_path / "store", reports), nprocs=2)
    assert sorted(reports.get() for _ in range(2)) == [(0, 2, True), (1, 2, False)]
