"""
What msgspec raises for bytes that it does not take.

Text that is no UTF-8 and nesting that is too deep are errors of their own there, not its own:
whoever catches only its own is ended by whoever may write to the topic, or to the file.
"""

from typing import Final

import msgspec

REFUSALS: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
