"""Judge a finished model: audit, report, compare."""

from geomprobe.auditing.between_models import between
from geomprobe.auditing.checkpoints import Checkpoints, Ranking, Row
from geomprobe.auditing.comparison import Comparison, compare
from geomprobe.auditing.many import audit_many
from geomprobe.auditing.report import AuditReport
from geomprobe.auditing.run import audit
from geomprobe.weights import load_weights

__all__ = [
    "AuditReport",
    "Checkpoints",
    "Comparison",
    "Ranking",
    "Row",
    "audit",
    "audit_many",
    "between",
    "compare",
    "load_weights",
]
