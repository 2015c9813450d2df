"""
What of the outputs a store shows: records, tombstones, and the two locks.
"""

from streams.testing.output_log import Log, batch, invented
from streams.testing.store import StoreUnderTest, opened
from streams.testing.suite.checks import SHORT, SinkChecks


class LockChecks(SinkChecks):
    """An item is found while its own record and that of its account stand."""

    def test_what_is_allowed_can_be_found(self, store: StoreUnderTest) -> None:
        """
        An item is found once its record and that of its account stand, whichever came first.
        """
        log = Log()
        log.user("u1", 1)
        log.item("c1", "u1", 1, 1, kind="comment", modality="image")
        log.item("c2", "u2", 1, 1, language=None)
        with opened(store) as sink:
            sink.apply(batch(log.changes))
            self.check(store, log.changes)
            sink.apply(batch([log.user("u2", 1)]))
            self.check(store, log.changes)

        assert {"c1", "c2"} == set(store.usable())

    def test_a_tombstone_purges(self, store: StoreUnderTest) -> None:
        """
        An item's tombstone takes it away and leaves the others; a later record brings it back.
        """
        log = Log()
        first = [log.user("u1", 1), log.item("c1", "u1", 1, 1), log.item("c2", "u1", 1, 1)]
        with opened(store) as sink:
            sink.apply(batch(first))
            sink.apply(batch([log.item("c1", "u1", 2, 1, allowed=False)]))
            assert {"c2"} == set(store.usable())
            sink.apply(batch([log.item("c1", "u1", 3, 1)]))
            self.check(store, log.changes)
            assert {"c1", "c2"} == set(store.usable())

    def test_a_tombstone_of_something_unknown(self, store: StoreUnderTest) -> None:
        """
        Tombstones of items and accounts never seen are remembered: older records are dropped.
        """
        log = Log()
        old = [log.user("u1", 1), log.item("c1", "u1", 1, 7), log.item("c2", "u1", 1, 1)]
        late = [log.item("c1", "u1", 2, 2**63 - 1, allowed=False)]
        late.append(log.user("u2", 5, allowed=False))
        with opened(store) as sink:
            sink.apply(batch(late))
            sink.apply(batch(old))
            self.check(store, log.changes)

            assert {"c2"} == set(store.usable())

    def test_a_newer_record_replaces_the_older(self, store: StoreUnderTest) -> None:
        """
        Of several records of an item the one with the highest (epoch, revision) is found, whole.
        """
        log = Log()
        changes = [
            log.user("u1", 1),
            log.item("c1", "u1", 1, 1, kind="comment"),
            log.item("c1", "u1", 1, 9, kind="post"),
            log.item("c1", "u1", 2, 3, language=None, modality="video"),
        ]
        with opened(store) as sink:
            for each in changes:
                sink.apply(batch([each]))
                self.check(store, log.changes[: log.changes.index(each) + 1])

    def test_much_in_one_batch(self, store: StoreUnderTest) -> None:
        """
        Many changes of the same keys in one batch end as if they had come one by one.
        """
        log = invented(SHORT * 5, seed=1)
        with opened(store) as sink:
            sink.apply(batch(log.changes))
            self.check(store, log.changes)

    def test_an_account_is_hidden_at_once(self, store: StoreUnderTest) -> None:
        """
        The tombstone of an account hides all its items in that product, and those of nobody else.
        """
        log = Log()
        log.user("u1", 1)
        log.user("u1", 1, product="facebook")
        log.user("u2", 1)
        for number in range(30):
            log.item(f"c{number}", "u1", 1, 1)
        log.item("f1", "u1", 1, 1, product="facebook")
        log.item("d1", "u2", 1, 1)
        with opened(store) as sink:
            sink.apply(batch(log.changes))
            assert 32 == len(store.usable())
            sink.apply(batch([log.user("u1", 2, allowed=False)]))
            self.check(store, log.changes)

            assert {"f1", "d1"} == set(store.usable())

    def test_what_still_stands_is_shown_again(self, store: StoreUnderTest) -> None:
        """
        A record of the account shows those of its items again whose own record stands by then.
        """
        log = Log()
        shown = [log.user("u1", 1), *(log.item(f"c{n}", "u1", 1, 1) for n in range(4))]
        with opened(store) as sink:
            sink.apply(batch(shown))
            sink.apply(batch([log.user("u1", 2, allowed=False)]))
            assert set() == set(store.usable())
            # While it is hidden: one purged, one changed, one new.
            sink.apply(
                batch(
                    [
                        log.item("c0", "u1", 2, 1, allowed=False),
                        log.item("c1", "u1", 2, 2, kind="comment"),
                        log.item("c9", "u1", 2, 1),
                    ]
                )
            )
            assert set() == set(store.usable())
            sink.apply(batch([log.user("u1", 3)]))
            self.check(store, log.changes)

            assert {"c1", "c2", "c3", "c9"} == set(store.usable())

    def test_an_item_without_its_account_is_hidden(self, store: StoreUnderTest) -> None:
        """
        Items whose account was never heard of, or is purged, are not found when they arrive.
        """
        log = Log()
        log.item("c1", "u1", 1, 1)
        log.user("u2", 3, allowed=False)
        log.item("c2", "u2", 3, 1)
        with opened(store) as sink:
            sink.apply(batch(log.changes))

            assert {} == store.usable()
