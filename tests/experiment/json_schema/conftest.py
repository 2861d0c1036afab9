"""The schema of spec files, built once for the tests of this folder."""

import jsonschema
import pytest

from rlssl.experiment.json_schema import spec_schema


@pytest.fixture(scope="package")
def validator() -> jsonschema.Draft202012Validator:
    schema = spec_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)
