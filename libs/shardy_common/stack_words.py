"""What `shardy up` says when the mesh is there."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shardy_common.stack import Stack


def facts(stack: Stack) -> dict[str, str]:
    """The same for programs, without the secrets: these are in the files."""
    return {
        "url": stack.url,
        "page": stack.page_url,
        "data_dir": str(stack.data_dir),
        "api_key_file": str(stack.data_dir / "api_key"),
        "operator_key_file": str(stack.data_dir / "operator_key"),
        "mesh_key": stack.mesh_key,
    }


def greeting(stack: Stack, demo: bool, development: bool = False) -> str:
    """What a person is told. The keys themselves only when they were made just now."""
    lines = [
        "Shardy is up.",
        f"  worker page   {stack.page_url}",
        f"  API           {stack.url}/v1  (described by /v1/openapi.json)",
    ]
    if stack.fresh_keys:
        lines += [
            f"  API key       {stack.api_key}  (to submit jobs; shown this once)",
            f"  operator key  {stack.operator_key}  (to operate the mesh; shown this once)",
        ]
    lines.append(f"  keys          in {stack.data_dir}: api_key and operator_key; commands of this folder find them")
    if mesh_key := stack.mesh_key:
        lines.append(f"  mesh key      {mesh_key}  (public: whoever checks receipts needs it)")
    lines.append(f"  data          {stack.data_dir}")
    if demo:
        lines.append("  note          replicas may share one network address: for one machine only")
    if development:
        lines.append("  note          development keys of proofs are taken, which anybody can forge under: trials only")
    return "\n".join([*lines, "Ctrl-C stops it."])
