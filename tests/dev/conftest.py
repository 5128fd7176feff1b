from tests.tools.conftest import data_options, data_root  # noqa: F401  fixtures
