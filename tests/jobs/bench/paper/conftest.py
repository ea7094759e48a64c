"""The street that all comparisons of these tests run on."""

import little_street
import pytest


@pytest.fixture(scope="session")
def street(tmp_path_factory):
    """A rendered street of eight small frames, with its truth."""
    return little_street.render(tmp_path_factory.mktemp("street"))
