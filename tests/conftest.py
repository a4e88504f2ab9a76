"""What holds for all tests: each of several workers has a place of its own, and work for it."""

import pytest
from xdist.remote import Producer

from tests.support import apart
from tests.support.sharing import Sharing, in_order


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):
        apart.leave_the_others()
    config.option.loadscopereorder = False  # it would put files of few tests last, and labs' tests are few


@pytest.hookimpl(trylast=True)  # after pytest's own order by parameters
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items[:] = in_order(items)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Sharing:
    return Sharing(config, log)
