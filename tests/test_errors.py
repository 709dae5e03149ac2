"""The messages of the exceptions, and their attributes."""

import pickle

import pytest

from rio_terrascope.errors import AccessDeniedError, TerrascopeError, TokenEndpointError, with_next_step


def test_the_message_is_what_happened_and_the_next_step():
    error = TerrascopeError("services.example answers nothing.", next_step="try again")
    assert str(error) == "services.example answers nothing. Next: try again."
    assert (error.what, error.next_step) == ("services.example answers nothing.", "try again")
    assert str(error) == with_next_step(error.what, error.next_step)


def test_an_error_without_advice_is_only_what_happened():
    error = TerrascopeError("not logged in.")
    assert str(error) == "not logged in."
    assert error.next_step is None


@pytest.mark.parametrize(
    "error",
    [
        TerrascopeError("it failed", next_step="try again"),
        TokenEndpointError("it is busy", next_step="wait", retry_after=7.0),
        AccessDeniedError("refused", next_step="accept the terms", url="https://a.example/b.tif", status=403),
    ],
)
def test_errors_can_be_pickled(error):
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))
