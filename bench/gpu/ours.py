"""Our decode attention, dense and sifted, over pages and contiguous caches."""

import torch

from problem import TAUS
from variant import Variant

LAYOUTS = ("page16", "page64", "contiguous")


def caches_of(problem, layout):
    """The copies of the caches, and the block table that belongs to them."""
    if layout == "contiguous":
        return problem.contiguous, None
    page = int(layout.removeprefix("page"))
    return problem.paged(page), problem.block_table(page)


def _workspace(problem):
    from siftattention import DecodeWorkspace

    cell = problem.cell
    keys = cell.batch * cell.context
    return DecodeWorkspace.allocate(cell.batch, cell.heads, cell.kv_heads, cell.head_dim, keys)


def _facts(problem, head_facts, group_facts):
    """Realised sparsity, union density, and candidates where there are any, as the kernel counts them."""
    cell = problem.cell
    candidates = group_facts[..., 2].double().mean().item() / cell.context
    kept = head_facts[..., 0].double().mean().item()
    rows = group_facts[..., 0].double().mean().item()
    return {
        "sparsity": round(1 - kept / cell.context, 4),
        "union": round(rows / cell.context, 4),
        **({"candidates": round(candidates, 4)} if candidates else {}),
        "empty_heads": int(head_facts[..., 3].sum()),
    }


def variant(problem, layout, mode, tau, make_workspace=_workspace, options=None):
    """Every request in one mode, statistics counted. Where all sift, the host knows it by counting, and
    leaves out the launch for those that do not. `options` are further arguments for each copy of the
    caches."""
    from siftattention import Mode, decode_attention

    cell, device = problem.cell, problem.device
    caches, table = caches_of(problem, layout)
    workspace, out = problem.scratch(make_workspace), torch.empty_like(problem.query)
    head_facts = torch.zeros(cell.batch, cell.heads, 4, dtype=torch.int32, device=device)
    group_facts = torch.zeros(cell.batch, cell.kv_heads, 3, dtype=torch.int32, device=device)
    modes = torch.full((cell.batch,), int(mode), dtype=torch.uint8, device=device)
    thresholds = problem.sifted_at(tau)[0]
    options = [{}] * problem.copies if options is None else options

    def launch(copy):
        return decode_attention(
            problem.query,
            caches[copy],
            problem.lengths,
            workspace,
            block_table=table,
            modes=None if mode == Mode.DENSE else modes,
            thresholds=None if mode == Mode.DENSE else thresholds,
            exact=mode != Mode.SIFT,
            out=out,
            head_facts=head_facts,
            group_facts=group_facts,
            **options[copy],
        )

    facts = (lambda: _facts(problem, head_facts, group_facts)) if mode == Mode.SIFT else None
    return Variant(launch, tau, facts)


def _build(layout, mode_name, tau):
    def build(problem):
        from siftattention import Mode

        return variant(problem, layout, Mode[mode_name], tau)

    return build


def _builders():
    for layout in LAYOUTS:
        yield f"dense/{layout}", _build(layout, "DENSE", 0.0)
        yield f"record/{layout}", _build(layout, "RECORD", 0.0)
        for tau in TAUS:
            yield f"sift/{layout}/{tau}", _build(layout, "SIFT", tau)


BUILDERS = dict(_builders())
