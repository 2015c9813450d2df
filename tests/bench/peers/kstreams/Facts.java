import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.util.Arrays;
import java.util.Map;
import java.util.TreeMap;
import java.util.TreeSet;

/** What is known of users and items, how it is merged, and its bytes in the store. */
final class Facts {
    static final long NEVER_MS = 1L << 62;
    static final int WITHDRAWN = 1 << 8;

    private Facts() {}

    /** One record's word on age and country; a day is counted from 1970, NO_DAY is none. */
    record Statement(int birthDay, int band, int adultSinceDay, String country)
            implements Comparable<Statement> {
        static final int NO_DAY = Integer.MIN_VALUE;
        static final int ADULT = 1;
        static final int UNDER_18 = 2;

        @Override
        public int compareTo(Statement other) {
            int order = Integer.compare(birthDay, other.birthDay);
            order = order != 0 ? order : Integer.compare(band, other.band);
            order = order != 0 ? order : Integer.compare(adultSinceDay, other.adultSinceDay);
            return order != 0 ? order : country.compareTo(other.country);
        }
    }

    /** What an assurance level says: its newest statements, several when tied. */
    static final class Level {
        long observedMs;
        TreeSet<Statement> statements = new TreeSet<>();
        long adultObservedMs = NEVER_MS;

        void merge(Level news) {
            if (news.observedMs > observedMs) {
                observedMs = news.observedMs;
                statements = news.statements;
            } else if (news.observedMs == observedMs) {
                statements.addAll(news.statements);
            }
            adultObservedMs = Math.min(adultObservedMs, news.adultObservedMs);
        }
    }

    /** A user's facts and the decision that stands, with its cause. */
    static final class User {
        final Map<String, Integer> objections = new TreeMap<>();
        final Level[] levels = new Level[3];
        long noticeMs = NEVER_MS;
        boolean deleted;
        long epoch;
        int[] reasons = new int[4];
        long adultFromMs = NEVER_MS;
        long decidedMs;
        String causeTopic = "";
        int causePartition;
        long causeOffset;
        String causeId;

        byte[] toBytes() {
            ByteArrayOutputStream bytes = new ByteArrayOutputStream(192);
            try (DataOutputStream out = new DataOutputStream(bytes)) {
                out.writeInt(objections.size());
                for (Map.Entry<String, Integer> each : objections.entrySet()) {
                    out.writeUTF(each.getKey());
                    out.writeInt(each.getValue());
                }
                for (Level level : levels) {
                    out.writeInt(level == null ? -1 : level.statements.size());
                    if (level == null) {
                        continue;
                    }
                    out.writeLong(level.observedMs);
                    out.writeLong(level.adultObservedMs);
                    for (Statement each : level.statements) {
                        out.writeInt(each.birthDay);
                        out.writeInt(each.band);
                        out.writeInt(each.adultSinceDay);
                        out.writeUTF(each.country);
                    }
                }
                out.writeLong(noticeMs);
                out.writeBoolean(deleted);
                out.writeLong(epoch);
                for (int each : reasons) {
                    out.writeInt(each);
                }
                out.writeLong(adultFromMs);
                out.writeLong(decidedMs);
                out.writeUTF(causeTopic);
                out.writeInt(causePartition);
                out.writeLong(causeOffset);
                out.writeUTF(causeId == null ? "" : causeId);
            } catch (IOException error) {
                throw new UncheckedIOException(error);
            }
            return bytes.toByteArray();
        }

        static User fromBytes(byte[] bytes) {
            User user = new User();
            try (DataInputStream in = new DataInputStream(new ByteArrayInputStream(bytes))) {
                for (int left = in.readInt(); left > 0; left--) {
                    user.objections.put(in.readUTF(), in.readInt());
                }
                for (int index = 0; index < user.levels.length; index++) {
                    int statements = in.readInt();
                    if (statements < 0) {
                        continue;
                    }
                    Level level = new Level();
                    level.observedMs = in.readLong();
                    level.adultObservedMs = in.readLong();
                    for (; statements > 0; statements--) {
                        level.statements.add(
                                new Statement(in.readInt(), in.readInt(), in.readInt(), in.readUTF()));
                    }
                    user.levels[index] = level;
                }
                user.noticeMs = in.readLong();
                user.deleted = in.readBoolean();
                user.epoch = in.readLong();
                for (int index = 0; index < user.reasons.length; index++) {
                    user.reasons[index] = in.readInt();
                }
                user.adultFromMs = in.readLong();
                user.decidedMs = in.readLong();
                user.causeTopic = in.readUTF();
                user.causePartition = in.readInt();
                user.causeOffset = in.readLong();
                String causeId = in.readUTF();
                user.causeId = causeId.isEmpty() ? null : causeId;
            } catch (IOException error) {
                throw new UncheckedIOException(error);
            }
            return user;
        }
    }

    /** An item's facts; value: bytes of the record that holds, which break ties. */
    record Item(
            long revision,
            int visibility,
            int product,
            int kind,
            long createdMs,
            boolean deleted,
            boolean privateMessage,
            byte[] value) {

        Item merge(Item news) {
            int order = Long.compare(revision, news.revision);
            order = order != 0 ? order : Integer.compare(visibility, news.visibility);
            order = order != 0 ? order : Arrays.compareUnsigned(value, news.value);
            Item head = order >= 0 ? this : news;
            return new Item(
                    head.revision,
                    head.visibility,
                    head.product,
                    head.kind,
                    Math.min(createdMs, news.createdMs),
                    deleted || news.deleted,
                    privateMessage || news.privateMessage,
                    head.value);
        }

        byte[] toBytes() {
            return java.nio.ByteBuffer.allocate(21 + value.length)
                    .putLong(revision)
                    .putLong(createdMs)
                    .put((byte) visibility)
                    .put((byte) product)
                    .put((byte) kind)
                    .put((byte) (deleted ? 1 : 0))
                    .put((byte) (privateMessage ? 1 : 0))
                    .put(value)
                    .array();
        }

        static Item fromBytes(byte[] bytes) {
            java.nio.ByteBuffer in = java.nio.ByteBuffer.wrap(bytes);
            long revision = in.getLong();
            long createdMs = in.getLong();
            int visibility = in.get();
            int product = in.get();
            int kind = in.get();
            boolean deleted = in.get() == 1;
            boolean privateMessage = in.get() == 1;
            byte[] value = Arrays.copyOfRange(bytes, in.position(), bytes.length);
            return new Item(
                    revision, visibility, product, kind, createdMs, deleted, privateMessage, value);
        }
    }
}
