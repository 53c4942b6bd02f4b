"""Problems of a data set: one record each, a table of all, and one sentence that ends a run."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from .io import write_json
from .ranks import rank, wait_for_ranks

__all__ = ["Problem", "count_problems", "format_problems", "report_problems"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Problem:
    """One problem of a data set and what to do about it.

    Args:
        case: name of the case; empty when no single case is at fault.
        file: path of the image or mask; empty when no single file is at fault.
        what: what is wrong.
        remedy: what the user can do.
        severity: "error", with which nothing can be trained, or "warning".
    """

    case: str
    file: str
    what: str
    remedy: str
    severity: str = "error"

    @property
    def is_error(self) -> bool:
        """Whether it ends a run."""
        return self.severity == "error"

    @property
    def sentence(self) -> str:
        """File, problem and remedy in one sentence without a full stop."""
        return f"{self.file}: {self.what}; {self.remedy}" if self.file else f"{self.what}; {self.remedy}"


def count_problems(problems: Sequence[Problem]) -> str:
    """Numbers of errors and warnings: "2 errors, 1 warnings"."""
    errors = sum(problem.is_error for problem in problems)
    return f"{errors} errors, {len(problems) - errors} warnings"


def format_problems(problems: Sequence[Problem]) -> str:
    """Lay problems out as a table, one a line; of a file, the name and its folder are shown."""
    rows = [("severity", "case", "file", "problem and remedy")]
    for problem in problems:
        file = "/".join(Path(problem.file).parts[-2:]) if problem.file else "-"
        rows.append((problem.severity, problem.case or "-", file, f"{problem.what}; {problem.remedy}"))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    form = "  ".join(f"{{:{width}}}" for width in widths) + "  {}"
    return "\n".join(form.format(*row) for row in rows)


def report_problems(problems: Sequence[Problem], path: str | Path) -> None:
    """Write problems to a JSON file, log their table, and end the run if there is an error among them.

    Under torchrun, all processes must call it with the same problems, and the first one writes and logs.

    Args:
        problems: of a data set, see `check_dataset`.
        path: of the JSON file.

    Raises:
        ValueError: when there is an error, not only warnings; names the first one and the file.
    """
    if rank() == 0:
        write_json({"problems": [asdict(problem) for problem in problems]}, path)
        if problems:
            logger.warning("%s in the data set\n%s", count_problems(problems), format_problems(problems))
    wait_for_ranks()  # torchrun stops the others as soon as one ends with an error
    errors = [problem for problem in problems if problem.is_error]
    if errors:
        found = f"{len(errors)} problems in the data set, the first" if len(errors) > 1 else "a problem in the data set"
        raise ValueError(f"{found}: {errors[0].sentence}; see {path}.")
