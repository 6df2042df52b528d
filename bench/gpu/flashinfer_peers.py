"""Dense paged decode attention of FlashInfer, planned for exactly the lengths that it is run with."""

import torch

from variant import Variant

WORKSPACE_BYTES = 128 << 20
PAGES = (16, 64)


def _workspace(problem):
    return torch.zeros(WORKSPACE_BYTES, dtype=torch.uint8, device=problem.device)


def _wrapper(problem, page, use_tensor_cores):
    import flashinfer

    cell = problem.cell
    wrapper = flashinfer.BatchDecodeWithPagedKVCacheWrapper(
        _workspace(problem), "HND", use_tensor_cores=use_tensor_cores
    )
    table = problem.block_table(page)
    wrapper.plan(
        torch.arange(cell.batch + 1, dtype=torch.int32) * table.shape[1],
        table.flatten(),
        torch.full((cell.batch,), page, dtype=torch.int32),
        cell.heads,
        cell.kv_heads,
        cell.head_dim,
        page,
        q_data_type=problem.dtype,
        kv_data_type=problem.dtype,
        sm_scale=problem.scale,
    )
    torch.cuda.synchronize()
    out = torch.empty_like(problem.query)
    caches = problem.paged(page)
    return Variant(lambda copy: wrapper.run(problem.query, caches[copy], out=out), tau=0.0)


def _xqa(problem, page):
    import flashinfer

    workspace = _workspace(problem)
    table = problem.block_table(page)
    out = torch.empty_like(problem.query)
    caches = problem.paged(page)

    def launch(copy):
        return flashinfer.decode.trtllm_batch_decode_with_kv_cache(
            problem.query,
            caches[copy],
            workspace,
            table,
            problem.lengths,
            problem.cell.context,
            bmm1_scale=problem.scale,
            bmm2_scale=1.0,
            out=out,
            kv_layout="HND",
            backend="xqa",
        )

    return Variant(launch, tau=0.0)


def _builders():
    for page in PAGES:
        yield f"flashinfer_cores/page{page}", lambda problem, p=page: _wrapper(problem, p, False)
        yield f"flashinfer_fa2/page{page}", lambda problem, p=page: _wrapper(problem, p, True)
        yield f"flashinfer_xqa/page{page}", lambda problem, p=page: _xqa(problem, p)


BUILDERS = dict(_builders())
