"""
What is made up around the real items: product, visibility, modality, language.

Of a hundred, about 80 are public posts and comments; some are for friends or oneself alone, a
few are interactions with an AI, one or two are private messages, which nobody may use.
"""

from streams.demo.activity import Activity, chance
from streams.demo.people import Person, Value

_MODALITIES = ("text", "image", "video", "voice")


def make_item(activity: Activity, person: Person) -> Value:
    """Return the `content` record of the item's first revision."""
    dice = chance("item", activity.content_id)
    kind = activity.kind
    what = dice.random()
    favourite = "facebook" if chance("favourite", activity.user_id).random() < 0.5 else "instagram"
    product = favourite if dice.random() < 0.8 else dice.choice(("facebook", "instagram"))
    visibility = dice.choices(("public", "friends", "private"), (86, 11, 3))[0]
    if what < 0.04:
        kind, visibility = "ai_interaction", "private"
        product = dice.choice((product, "whatsapp", "messenger"))
    elif what < 0.055:
        kind, visibility = "private_message", "private"
        product = dice.choice(("whatsapp", "messenger"))
    shares = (60, 28, 10, 2) if activity.kind == "post" else (92, 6, 1, 1)
    return {
        "user_id": activity.user_id,
        "content_id": activity.content_id,
        "revision": 1,
        "product": product,
        "kind": kind,
        "visibility": visibility,
        "modality": dice.choices(_MODALITIES, shares)[0],
        "created_at": activity.created_at,
        "language": dice.choice(person.languages),
    }


def hide_from_public(item: Value) -> Value:
    """Return the next revision of *item*, in which its author lets only friends see it."""
    return item | {"revision": item["revision"] + 1, "visibility": "friends"}
