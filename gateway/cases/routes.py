"""`/v1/cases`."""

from gateway.proceedings.forms import CASE
from gateway.proceedings.routes import router_of
from gateway.proceedings.views import CloseCase, FileCase

router = router_of(CASE, FileCase, CloseCase)
