"""An engine of a tiny checkpoint."""

import pytest
from engine_support import make_backend


@pytest.fixture
def engine(request):
    backend = make_backend(**getattr(request, "param", {}))
    yield backend
    backend.close()
