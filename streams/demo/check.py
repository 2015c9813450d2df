"""
Whether a store holds exactly what it may, and the outputs are what the inputs demand.
"""

from collections.abc import Mapping
from itertools import chain

from streams.demo.stores import Store
from streams.proof import OUTPUTS, Record, Truth, compacted, differences, log_violations


def store_differences(truth: Truth, store: Store) -> list[str]:
    """Return how *store* differs from the *truth*."""
    found, name = store.contents(), store.name
    wrong = [
        f"{name} {content_id}: its data is in the store, but may not be used"
        for content_id in sorted(found.kept - truth.items.keys())
    ]
    wrong += [
        f"{name} {content_id}: can be reached, but may not be used"
        for content_id in sorted(found.usable.keys() - truth.items.keys())
    ]
    for content_id, item in truth.items.items():
        held = found.usable.get(content_id)
        if held is None:
            wrong.append(f"{name} {content_id}: may be used, but cannot be reached")
        elif held != item:
            wrong.append(f"{name} {content_id}: is {held}, expected {item}")
    return wrong


def output_differences(truth: Truth, outputs: Mapping[str, list[Record]]) -> list[str]:
    """Return how all *outputs* (by their names in the contract) differ from the *truth*."""
    last = (compacted(outputs[name]) for name in OUTPUTS)
    return differences(truth, *last) + log_violations(chain(*outputs.values()))
