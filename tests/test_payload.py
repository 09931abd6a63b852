"""What is sent, byte for byte, and what would be refused."""

import json
from decimal import Decimal

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from journal_entries import order

from adapters.demo_broker import DemoBroker
from ibs_core.contracts import load_contract_map
from ibs_core.errors import DataError
from ibs_core.payload import body_of, flattening, payload_of, spelt
from ibs_core.payload_rules import check_payload, refusals

MAP = load_contract_map()
FUTURES = [each for each in MAP.contracts.values() if each.kind == "future"]
ENTRY = {
    "ticker": "MESZ2026",
    "action": "buy",
    "orderType": "market",
    "quantityType": "fixed_quantity",
    "quantity": 1,
    "signalPrice": 5912.25,
}
EXIT = {"ticker": "MESZ2026", "action": "exit", "orderType": "market", "cancel": True}


def test_an_entry_is_spelt_as_the_receiver_reads_it():
    assert payload_of(order("o1", target=6880.5), "ibs") == {
        "ticker": "MESZ2025",
        "action": "buy",
        "orderType": "market",
        "quantityType": "fixed_quantity",
        "quantity": 2,
        "signalPrice": 6812.25,
        "stopLoss": {"type": "stop", "stopPrice": 6744.25},
        "takeProfit": {"limitPrice": 6880.5},
        "time": "2025-12-01T14:40:00.123+00:00",
        "extras": {
            "cid": "o1",
            "strategy": "ibs",
            "v": 1,
            "score": 0.625,
            "threshold": 0.5,
            "model": "es-v3",
        },
    }


def test_an_exit_closes_whatever_is_open_and_cancels_what_rests():
    given = order("o2", action="exit", reason="flat_by", score=None, threshold=None, model="")
    assert payload_of(given, "ibs") == {
        "ticker": "MESZ2025",
        "action": "exit",
        "orderType": "market",
        "cancel": True,
        "ignoreTradingWindows": True,
        "signalPrice": 6812.25,
        "time": "2025-12-01T14:40:00.123+00:00",
        "extras": {"cid": "o2", "strategy": "ibs", "v": 1, "reason": "flat_by"},
    }


@pytest.mark.parametrize("instrument", ["ES", "MESZ5", "MESZ25", "ES.v.0", "ESA2025", "@ES"])
def test_a_contract_without_a_year_of_four_digits_is_not_sent(instrument):
    with pytest.raises(DataError, match=r"expected a spelling as MESZ2025, found"):
        payload_of(order(instrument=instrument), "ibs")


def test_an_entry_that_buys_nothing_is_not_sent():
    with pytest.raises(DataError, match="expected at least 1, found 0"):
        payload_of(order(quantity=0), "ibs")


def test_a_cancel_makes_flat_for_its_entry_may_have_filled():
    payload = payload_of(order(action="cancel", score=0.0), "ibs")
    assert (payload["action"], payload["cancel"]) == ("exit", True)
    assert payload["extras"]["score"] == 0.0
    assert "quantity" not in payload
    assert {"stopLoss", "takeProfit"}.isdisjoint(payload_of(order(stop=None), "ibs"))


def test_the_map_names_the_receivers_root_and_tells_of_the_contract():
    payload = json.loads(body_of(order(instrument="MESZ2026"), "ibs", MAP))
    assert payload["ticker"] == "MESZ2026"
    assert payload["extras"]["symbol"] == "ES"
    assert payload["extras"]["contract"] == {
        "root": "MES",
        "description": "Micro E-mini S&P 500",
        "exchange": "CME",
        "tick_size": 0.25,
        "tick_value_usd": 1.25,
        "pair": "MNQ",
        "map": MAP.digest[:12],
    }


def test_what_flattens_an_entry_is_an_exit_of_another_name():
    payload = payload_of(flattening(order("o1")), "ibs", MAP)
    assert (payload["action"], payload["extras"]["cid"]) == ("exit", "o1-flatten")
    assert {"stopLoss", "takeProfit", "quantity"}.isdisjoint(payload)


@given(contract=st.sampled_from(FUTURES), n_ticks=st.integers(100, 10**6), gap=st.integers(2, 90))
def test_prices_are_exact_multiples_of_the_executed_tick(contract, n_ticks, gap):
    tick = Decimal(contract.tick_nano).scaleb(-9)
    price = [float((n_ticks + k) * tick) for k in (0, -gap, gap)]
    instrument = f"{contract.root}{contract.months[0]}2026"
    given_order = order(instrument=instrument, price=price[0], stop=price[1], target=price[2])
    body = body_of(given_order, "ibs", MAP)
    assert body.isascii()
    assert "\n" not in body
    read = json.loads(body, parse_float=Decimal, parse_int=Decimal)
    found = read["signalPrice"], read["stopLoss"]["stopPrice"], read["takeProfit"]["limitPrice"]
    assert found == tuple((n_ticks + k) * tick for k in (0, -gap, gap))


def test_levels_of_a_root_with_a_finer_tick_are_put_on_the_grid_of_the_micro():
    assert MAP.get("6E").tick_nano < MAP.get("M6E").tick_nano
    given_order = order(instrument="M6EZ2026", price=1.10005, stop=1.09015, target=None)
    payload = payload_of(given_order, "ibs", MAP)
    assert payload["stopLoss"]["stopPrice"] == Decimal("1.0902")


@pytest.mark.parametrize("price", [float("nan"), float("inf")])
def test_a_price_that_is_no_number_is_not_sent(price):
    with pytest.raises(DataError, match="expected a number"):
        body_of(order(price=price), "ibs")
    with pytest.raises(ValueError, match="not JSON compliant"):
        spelt({"score": price})


WRONG = {
    "empty-ticker-name": {"ticker": ""},
    "ticker-does-not-exist": {"ticker": "MES1!"},
    "invalid-action": {"action": "close"},
    "invalid-sentiment": {"sentiment": "up"},
    "invalid-order-type": {"orderType": "limit"},
    "invalid-trailing-stop": {"orderType": "trailing_stop"},
    "invalid-time-in-force": {"timeInForce": "fill"},
    "invalid-extended-hours": {"extendedHours": True},
    "invalid-expires-at": {"expiresAt": "soon"},
    "invalid-quantity": {"quantity": 0},
    "invalid-quantity-type": {"quantityType": "lots"},
    "invalid-quantity-type-for-asset-class": {"quantityType": "dollar_amount"},
    "invalid-percent-of-position-action": {"quantityType": "percent_of_position"},
    "invalid-take-profit-value-required": {"takeProfit": {}},
    "invalid-take-profit-percent": {"takeProfit": {"percent": -1}},
    "invalid-take-profit-amount": {"takeProfit": {"amount": 0}},
    "invalid-take-profit-limit-price": {"takeProfit": {"limitPrice": "high"}},
    "invalid-take-profit-amount-and-percent": {"takeProfit": {"amount": 1, "percent": 1}},
    "invalid-take-profit-relative-and-absolute": {"takeProfit": {"limitPrice": 6000, "percent": 1}},
    "invalid-stop-loss-type": {"stopLoss": {"stopPrice": 5900}},
    "invalid-stop-loss-stop-price": {"stopLoss": {"type": "stop", "stopPrice": 5913}},
    "invalid-stop-loss-limit-price": {"stopLoss": {"type": "stop_limit", "stopPrice": 5900}},
    "invalid-stop-loss-trail-amount": {"stopLoss": {"type": "trailing_stop", "trailAmount": 0}},
    "invalid-stop-loss-trail-percent": {"stopLoss": {"type": "trailing_stop", "trailPercent": 0}},
    "invalid-stop-loss-trail-value-required": {"stopLoss": {"type": "trailing_stop"}},
    "invalid-stop-loss-value-required": {"stopLoss": {"type": "stop"}},
    "invalid-stop-loss-relative-and-absolute": {
        "stopLoss": {"type": "stop", "stopPrice": 5900, "percent": 1}
    },
    "invalid-payload": {"sideEffect": 1},
}


@pytest.mark.parametrize("code", WRONG)
def test_every_rule_of_the_receiver_is_known_here_by_its_code(code):
    assert list(refusals(ENTRY)) == []
    assert list(refusals(EXIT)) == []
    assert code in [each.code for each in refusals(ENTRY | WRONG[code])]
    with pytest.raises(DataError, match="payload of order o1: expected"):
        check_payload(ENTRY | WRONG[code], "o1")


@pytest.mark.parametrize(
    ("code", "payload"),
    [
        ("empty-json", {}),
        ("invalid-sentiment-action", EXIT | {"sentiment": "flat"}),
        ("quantity-type-requires-quantity", EXIT | {"quantityType": "fixed_quantity"}),
        ("invalid-quantity-type-action", {"ticker": "MESZ2026", "action": "cancel", "quantity": 1}),
        ("invalid-payload", ENTRY | {"signalPrice": 5912.3}),
        ("invalid-payload", ENTRY | {"time": "2026-11-20T14:30:00"}),
        ("invalid-payload", ENTRY | {"cancelAfter": 0}),
        ("invalid-payload", ENTRY | {"cancel": "yes"}),
    ],
)
def test_rules_across_names_hold_too(code, payload):
    assert code in [each.code for each in refusals(payload, 250_000_000)]


@pytest.mark.parametrize("root", ["ES", "MES", "6J", "ZB"])
def test_what_passes_here_is_taken_by_a_receiver_that_was_written_apart(root):
    contract = MAP.get(root)
    with DemoBroker() as broker:
        for action in ("entry", "exit", "cancel"):
            price, stop, target = (
                contract.round_to_tick(n * contract.tick_size) for n in (1000, 900, 1100)
            )
            given_order = order(
                action=action,
                instrument=f"{root}{contract.months[0]}2026",
                price=price,
                stop=stop,
                target=target,
            )
            body = body_of(given_order, "ibs", MAP)
            answer = httpx.post(broker.url, content=body, trust_env=False)
            assert answer.status_code == 200, answer.text
