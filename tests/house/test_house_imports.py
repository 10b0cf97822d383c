"""What importing loads: the shell stays cheap, the domain stays free of the shell."""

from __future__ import annotations

import subprocess
import sys

LOADED = "import sys; {}; print(*sorted({{name.split('.')[0] for name in sys.modules}}))"


def loaded_by(statement: str) -> set[str]:
    run = subprocess.run(
        [sys.executable, "-c", LOADED.format(statement)], capture_output=True, text=True, timeout=120, check=True
    )
    return set(run.stdout.split())


def test_loading_the_definitions_loads_no_heavy_library():
    loaded = loaded_by("import aura_assets.definitions")
    assert not loaded & {"torch", "transformers", "sentence_transformers", "gudhi", "mlflow", "sklearn", "matplotlib"}


def test_the_domain_loads_neither_dagster_nor_streamlit():
    assert not loaded_by("import aura.measure.cost, aura.tiers.store") & {"dagster", "streamlit"}
