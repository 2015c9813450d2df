import java.time.LocalDate;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;
import java.util.TreeSet;

/** The contract's decisions by its default policy: as much of them as good records need. */
final class Rules {
    static final List<String> PRODUCTS = List.of("facebook", "instagram", "whatsapp", "messenger");
    static final List<String> KINDS = List.of("post", "comment", "ai_interaction", "private_message");
    static final List<String> VISIBILITIES = List.of("public", "friends", "private", "deleted");
    static final int PRIVATE_MESSAGE_KIND = 3;
    static final int AI_INTERACTION_KIND = 2;
    static final int DELETED_VISIBILITY = 3;
    static final int ALL_PRODUCTS = 15;

    // The bits are those of streams/core/reasons.py.
    private static final int OBJECTION = 1;
    private static final int UNDER_AGE = 2;
    private static final int AGE_UNKNOWN = 4;
    private static final int COUNTRY_NOT_COVERED = 8;
    private static final int NOTICE_PENDING = 16;
    private static final int ACCOUNT_DELETED = 32;
    private static final String[] NAMES = {
        "OBJECTION", "UNDER_AGE", "AGE_UNKNOWN", "COUNTRY_NOT_COVERED", "NOTICE_PENDING",
        "ACCOUNT_DELETED",
    };

    private static final Set<String> COUNTRIES =
            Set.of(
                    "AT", "BE", "BG", "CY", "CZ", "DE", "DK", "EE", "ES", "FI", "FR", "GR", "HR",
                    "HU", "IE", "IT", "LT", "LU", "LV", "MT", "NL", "PL", "PT", "RO", "SE", "SI",
                    "SK", "IS", "LI", "NO");
    private static final int ADULT_AGE = 18;
    private static final long DAY_MS = 86_400_000L;
    private static final long EVERYWHERE_MS = DAY_MS / 2;
    private static final long NOTICE_WINDOW_MS = 30 * DAY_MS;

    private Rules() {}

    /** Decide on a user: sets reasons and the coming of age. */
    static void decide(Facts.User user, long nowMs) {
        if (user.deleted) {
            java.util.Arrays.fill(user.reasons, ACCOUNT_DELETED);
            user.adultFromMs = Facts.NEVER_MS;
            return;
        }
        int common = judgeAge(user, nowMs);
        if (user.noticeMs == Facts.NEVER_MS || nowMs < user.noticeMs + NOTICE_WINDOW_MS) {
            common |= NOTICE_PENDING;
        }
        int objected = 0;
        for (int flags : user.objections.values()) {
            objected |= (flags & Facts.WITHDRAWN) == 0 ? flags : 0;
        }
        for (int index = 0; index < user.reasons.length; index++) {
            user.reasons[index] = common | ((objected >> index & 1) == 1 ? OBJECTION : 0);
        }
    }

    /** Whether nothing stands against using an item. */
    static boolean allows(Facts.Item item, int[] reasons, long adultFromMs) {
        boolean seen =
                item.visibility() == 0
                        || item.kind() == AI_INTERACTION_KIND
                                && item.visibility() != DELETED_VISIBILITY;
        return reasons[item.product()] == 0
                && !item.privateMessage()
                && item.kind() != PRIVATE_MESSAGE_KIND
                && !item.deleted()
                && seen
                && item.createdMs() >= adultFromMs;
    }

    /** The sorted names of a set of reasons. */
    static Set<String> names(int reasons) {
        Set<String> names = new TreeSet<>();
        for (int index = 0; index < NAMES.length; index++) {
            if ((reasons >> index & 1) == 1) {
                names.add(NAMES[index]);
            }
        }
        return names;
    }

    /** The highest level is in force; a newer statement of a lower one only restricts. */
    private static int judgeAge(Facts.User user, long nowMs) {
        Facts.Level inForce = null;
        List<Facts.Statement> restricting = new ArrayList<>();
        for (int index = user.levels.length - 1; index >= 0; index--) {
            Facts.Level level = user.levels[index];
            if (level != null && inForce == null) {
                inForce = level;
            } else if (level != null && level.observedMs > inForce.observedMs) {
                restricting.addAll(level.statements);
            }
        }
        if (inForce == null) {
            user.adultFromMs = Facts.NEVER_MS;
            return AGE_UNKNOWN | COUNTRY_NOT_COVERED;
        }
        int reasons = 0;
        long adultFromMs = Long.MIN_VALUE;
        long underAgeUntilMs = Long.MIN_VALUE;
        for (Facts.Statement each : inForce.statements) {
            boolean unknown = each.birthDay() == Facts.Statement.NO_DAY && each.band() == 0;
            reasons |= unknown ? AGE_UNKNOWN : 0;
            reasons |= COUNTRIES.contains(each.country()) ? 0 : COUNTRY_NOT_COVERED;
            adultFromMs = Math.max(adultFromMs, adultFromMs(each, inForce));
            underAgeUntilMs = Math.max(underAgeUntilMs, underAgeUntilMs(each));
        }
        for (Facts.Statement each : restricting) {
            boolean outside = !each.country().isEmpty() && !COUNTRIES.contains(each.country());
            reasons |= outside ? COUNTRY_NOT_COVERED : 0;
            long untilMs = underAgeUntilMs(each);
            underAgeUntilMs = Math.max(underAgeUntilMs, untilMs);
            adultFromMs = untilMs == Facts.NEVER_MS ? adultFromMs : Math.max(adultFromMs, untilMs);
        }
        user.adultFromMs = adultFromMs;
        return nowMs < underAgeUntilMs ? reasons | UNDER_AGE : reasons;
    }

    private static long adultFromMs(Facts.Statement statement, Facts.Level level) {
        if (statement.birthDay() != Facts.Statement.NO_DAY) {
            return ofAgeMs(statement.birthDay());
        }
        if (statement.band() != Facts.Statement.ADULT) {
            return Facts.NEVER_MS;
        }
        boolean dated = statement.adultSinceDay() != Facts.Statement.NO_DAY;
        return dated ? endOfDayMs(statement.adultSinceDay()) : level.adultObservedMs;
    }

    private static long underAgeUntilMs(Facts.Statement statement) {
        if (statement.birthDay() != Facts.Statement.NO_DAY) {
            return ofAgeMs(statement.birthDay());
        }
        if (statement.band() == Facts.Statement.UNDER_18) {
            return Facts.NEVER_MS;
        }
        boolean dated = statement.adultSinceDay() != Facts.Statement.NO_DAY;
        return dated ? endOfDayMs(statement.adultSinceDay()) : Long.MIN_VALUE;
    }

    /** The end of the birthday everywhere on earth; of 29 February it is 1 March in other years. */
    private static long ofAgeMs(int birthDay) {
        LocalDate born = LocalDate.ofEpochDay(birthDay);
        LocalDate birthday = born.plusYears(ADULT_AGE);
        boolean moved = birthday.getDayOfMonth() != born.getDayOfMonth();
        return endOfDayMs((moved ? birthday.plusDays(1) : birthday).toEpochDay());
    }

    private static long endOfDayMs(long day) {
        return (day + 1) * DAY_MS + EVERYWHERE_MS;
    }
}
