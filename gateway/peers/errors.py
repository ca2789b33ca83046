"""Why a department's node gave no answer, or a bad one."""

from __future__ import annotations

from typing import Any

from gateway.problems import Problem


class PeerUnreachable(Problem):
    """The node of `department` did not answer, or not as one of its kind. Trying again later may help."""

    def __init__(self, department: str, reason: str) -> None:
        super().__init__("peer-unreachable", f"the node of {department} {reason}", department=department)
        self.department = department


class PeerRefused(Problem):
    """The node of `department` answered with a problem: `refusal` is its code, `answered` its status, `problem` the
    whole object. What stands there is the other side's word."""

    def __init__(self, department: str, answered: int, problem: dict[str, Any]) -> None:
        refusal = str(problem.get("code", "unknown"))[:64]
        detail = f"the node of {department} refused ({refusal}): {str(problem.get('detail', ''))[:500]}"
        super().__init__("peer-refused", detail, department=department, refusal=refusal)
        self.department, self.refusal, self.answered, self.problem = department, refusal, answered, problem
