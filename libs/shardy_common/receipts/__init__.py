"""Receipts: what the mesh did for a job, signed, so that anybody can check it alone (docs/receipts.md). Pure."""

from shardy_common.receipts.arrays import ArrayReport, check_arrays
from shardy_common.receipts.checking import Report, check, load
from shardy_common.receipts.statements import (
    FORMAT,
    SIGN_TAG,
    Credited,
    Signer,
    canonical,
    job_statement,
    task_leaf,
    task_statement,
)
from shardy_common.receipts.tree import GrowingRoot, Tree

__all__ = [
    "FORMAT",
    "SIGN_TAG",
    "ArrayReport",
    "Credited",
    "GrowingRoot",
    "Report",
    "Signer",
    "Tree",
    "canonical",
    "check",
    "check_arrays",
    "job_statement",
    "load",
    "task_leaf",
    "task_statement",
]
