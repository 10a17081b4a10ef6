"""What a log says of an address never opens anything."""

from __future__ import annotations

import logging

import pytest
from django.test import Client

from apps.accounts.log_masks import LOGGERS, MaskAddresses, masked


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("GET /setup/yO9t1eonLR-E_q3e HTTP/1.1", "GET /setup/… HTTP/1.1"),
        ("/invite/abc?next=/x", "/invite/…?next=/x"),
        ("/sso/sso/callback?code=c0de&state=st4te", "/sso/sso/callback?code=…&state=…"),
        ("/setups/late?encode=7", "/setups/late?encode=7"),
    ],
)
def test_the_secret_part_of_an_address_is_cut_out_and_nothing_else(said: str, kept: str) -> None:
    assert masked(said) == kept


def test_the_servers_own_line_about_a_request_is_masked(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("uvicorn.access")
    with caplog.at_level(logging.INFO, logger="uvicorn.access"):
        logger.info('%s - "%s %s HTTP/%s" %d', "127.0.0.1:1", "GET", "/setup/s3cr3t", "1.1", 200)
    assert caplog.messages == ['127.0.0.1:1 - "GET /setup/… HTTP/1.1" 200']
    assert all(any(isinstance(item, MaskAddresses) for item in logging.getLogger(name).filters) for name in LOGGERS)


@pytest.mark.django_db
def test_a_link_that_is_not_right_is_not_written_down_either(caplog: pytest.LogCaptureFixture) -> None:
    assert Client().get("/invite/th1s-may-be-somebodys").status_code == 404
    assert "th1s-may" not in caplog.text
