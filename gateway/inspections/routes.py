"""`/v1/inspections`."""

from gateway.proceedings.forms import INSPECTION
from gateway.proceedings.routes import router_of
from gateway.proceedings.views import CloseInspection, OpenInspection

router = router_of(INSPECTION, OpenInspection, CloseInspection)
