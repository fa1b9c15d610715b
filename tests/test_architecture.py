"""The house's own rules, held by tests: sizes, names, lazy imports, nothing of the machine in tracked files."""

import ast
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src").rglob("*.py"))

#: Folders of experiments, one value per file.
VALUES = ("experiments", "pretrainings")

#: Mistakes that were met elsewhere and that calot makes impossible, in the words of their tests' names.
PITFALLS = [
    "missing_truncated_or_black_frame_silently_used",
    "nan_label_read_as_negative",
    "a_video_in_two_splits",
    "test_labels_changed_by_a_training_label_rule",
    "split_test_answering_train",
    "per_frame_colour_jitter",
    "flip_or_rotation_that_misses_the_masks",
    "0_based_1_based_frame_numbers",
    "string_sorted_frames",
    "windows_across_a_gap",
    "train_map_computed_on_mixed_inputs_against_unmixed_labels",
    "label_smoothing_at_twice_its_strength",
    "non_finite_loss_skipped_in_silence",
    "gradient_accumulation_remainder_dropped_or_carried_over",
    "scheduler_stepping_past_its_end",
    "scheduler_stepping_on_skipped_steps",
    "a_resume_flag_that_does_nothing",
    "predictions_stored_after_a_saturating_sigmoid",
    "one_nan_score_turning_map_into_0",
    "hooks_that_read_the_base_layer_under_lora",
    "a_feature_cache_keyed_by_file_name",
    "batchnorm_statistics_from_batches_of_one",
]


def _functions(path: Path) -> list[tuple[str, int]]:
    tree = ast.parse(path.read_text())
    found = [n for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))]
    return [(f"{path.name}:{n.name}", (n.end_lineno or 0) - n.lineno + 1) for n in found]


def test_files_stay_under_350_lines() -> None:
    assert [(p.name, n) for p in SOURCES if (n := len(p.read_text().splitlines())) > 350] == []


def test_functions_stay_within_60_lines() -> None:
    assert [f for p in SOURCES for f in _functions(p) if f[1] > 60] == []


def test_every_pitfall_has_one_test_named_after_it() -> None:
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    assert sorted(re.findall(r"^def test_pitfall_(\w+)", tests, re.M)) == sorted(PITFALLS)


def test_every_public_name_is_defined_once() -> None:
    """Two classes or functions of one public name are two places for one idea.

    Commands, and the Python API that has their names, mirror what they call.
    """
    names: Counter[str] = Counter()
    for path in SOURCES:
        if "cli" in path.parts or path.parent.name in VALUES or path.name == "api.py":
            continue
        body = ast.parse(path.read_text()).body
        names.update({n.name for n in body if isinstance(n, (ast.FunctionDef, ast.ClassDef)) and n.name[0] != "_"})
    assert [name for name, count in names.items() if count > 1] == []


def test_every_public_function_and_class_says_what_it_is() -> None:
    missing = []
    for path in SOURCES:
        for node in ast.parse(path.read_text()).body:
            named = isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name[0] != "_"
            if named and not ast.get_docstring(node) and not isinstance(node, ast.Module):
                missing.append(f"{path.relative_to(ROOT)}:{node.name}")
    assert missing == []


def test_no_file_outside_endoscapes_and_the_phantom_knows_its_frame_rate() -> None:
    """25 frame numbers per second, 125 to a keyframe: a data set's own, which its reader knows and nobody else."""
    allowed = {"RATE_OF_0_1"}  # tables of calot 0.1, which knew no other
    known = []
    for path in SOURCES:
        if {"endoscapes", "phantom", "cholec80"} & set(path.parts):  # Cholec80 was filmed at the same rate
            continue
        source = path.read_text()
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, (ast.Assign, ast.AnnAssign, ast.keyword, ast.BinOp, ast.Compare, ast.Call, ast.Return)):
                numbers = {n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and type(n.value) is not str}
                if not numbers & {25, 125}:
                    continue
                text = ast.get_source_segment(source, node) or ""
                timed = re.search(r"fps|rate\b|RATE|frame|step|second", text, re.I)
                if timed and not any(name in text for name in allowed):
                    known.append(f"{path.relative_to(ROOT)}:{node.lineno}: {text.splitlines()[0]}")
    assert known == []


#: What only a backbone's family may know: its classes, its layers' names, its patches, how its clips are normalised.
OF_A_FAMILY = re.compile(r"VJEPA|vjepa2|VideoMAE|DINOv3|encoder\.layer\b|tubelet|IMAGENET_|\b0?\.(485|456|229)\b")


def test_no_file_outside_the_backbones_knows_a_family() -> None:
    named = {
        f"{path.name}: {line.strip()}"
        for path in SOURCES
        if "backbones" not in path.parts and path.parent.name not in VALUES
        for line in path.read_text(encoding="utf-8").splitlines()
        if OF_A_FAMILY.search(line)
    }
    assert named == set()


def test_experiments_are_values_of_10_to_25_lines_without_logic() -> None:
    for path in SOURCES:
        if path.parent.name not in VALUES or path.name == "__init__.py":
            continue
        tree = ast.parse(path.read_text())
        assert len(path.read_text().splitlines()) <= 30, path
        assert ast.get_docstring(tree), path
        allowed = (ast.Expr, ast.Import, ast.ImportFrom, ast.Assign)
        assert all(isinstance(node, allowed) for node in tree.body), path


def test_no_machine_path_or_registry_host_is_tracked() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    if not tracked:
        pytest.skip("not a git checkout")
    bad = re.compile(r"/(work|farm|root)/|pypi\.o" + "rg|pythonhos" + "ted|npmjs\\.o" + "rg|deb\\.deb" + "ian")
    read = {".py", ".md", ".toml", ".txt", ".yml", ".yaml", ".json", ".html", ".cff", ""}
    text = [ROOT / name for name in tracked if Path(name).suffix in read]
    assert [str(p) for p in text if p.is_file() and bad.search(p.read_text(errors="ignore"))] == []


def test_help_imports_neither_torch_nor_polars() -> None:
    heavy = ("torch", "polars", "matplotlib", "sklearn")
    code = f"import sys; import calot.cli.main; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_statistics_and_report_import_no_torch() -> None:
    code = (
        "import importlib.machinery, sys\nclass Refuse:\n"  # torch can be found (polars asks), and not imported
        "    def find_spec(self, name, *rest):\n"
        "        if name.split('.')[0] in ('torch', 'transformers', 'accelerate', 'jaxtyping', 'simplejpeg', 'cv2'):\n"
        "            return importlib.machinery.ModuleSpec(name, self)\n"
        "    def create_module(self, spec): raise ImportError(spec.name)\n"
        "    def exec_module(self, module): ...\n"
        "sys.meta_path.insert(0, Refuse())\n"
        "import calot.cli.main, calot.cli.statistics, calot.cli.report, calot.statistics.summary\n"
        "import calot.statistics.compare\n"
        "import calot.report.page, calot.data.endoscapes.reader, calot.analysis.dataset_stats\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
