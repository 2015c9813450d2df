import com.fasterxml.jackson.annotation.JsonIgnoreProperties;
import com.fasterxml.jackson.annotation.JsonProperty;
import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonGenerator;
import com.fasterxml.jackson.databind.ObjectReader;
import com.fasterxml.jackson.databind.json.JsonMapper;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.time.Instant;
import java.time.LocalDate;
import java.time.OffsetDateTime;
import java.util.List;
import java.util.Map;
import java.util.TreeSet;

/** Bytes of input records -> facts, and outputs -> bytes. */
final class Records {
    private static final JsonMapper MAPPER = JsonMapper.builder().build();
    private static final JsonFactory FACTORY = MAPPER.getFactory();
    private static final ObjectReader OBJECTION = MAPPER.readerFor(Objection.class);
    private static final ObjectReader AGE = MAPPER.readerFor(AccountAge.class);
    private static final ObjectReader NOTICE = MAPPER.readerFor(Notice.class);
    private static final ObjectReader CONTENT = MAPPER.readerFor(Content.class);
    private static final Map<String, Integer> ASSURANCES =
            Map.of("self_declared", 0, "inferred", 1, "verified", 2);
    private static final Map<String, Integer> BANDS = Map.of("adult", 1, "under_18", 2);

    private Records() {}

    @JsonIgnoreProperties(ignoreUnknown = true)
    record Objection(
            @JsonProperty("objection_id") String objectionId, String action, List<String> products) {}

    @JsonIgnoreProperties(ignoreUnknown = true)
    record AccountAge(
            @JsonProperty("observed_at") String observedAt,
            @JsonProperty("birth_date") String birthDate,
            @JsonProperty("age_band") String ageBand,
            @JsonProperty("adult_since") String adultSince,
            String assurance,
            String country,
            String account) {}

    @JsonIgnoreProperties(ignoreUnknown = true)
    record Notice(
            @JsonProperty("notice_id") String noticeId,
            @JsonProperty("delivered_at") String deliveredAt) {}

    @JsonIgnoreProperties(ignoreUnknown = true)
    record Content(
            @JsonProperty("content_id") String contentId,
            long revision,
            String product,
            String kind,
            String visibility,
            String modality,
            @JsonProperty("created_at") String createdAt,
            String language) {

        Facts.Item item(byte[] value, long receivedMs) {
            int kindIndex = Rules.KINDS.indexOf(kind);
            int visibilityRank = Rules.VISIBILITIES.indexOf(visibility);
            return new Facts.Item(
                    revision,
                    visibilityRank < 0 ? 2 : visibilityRank,
                    Rules.PRODUCTS.indexOf(product),
                    kindIndex < 0 ? Rules.PRIVATE_MESSAGE_KIND : kindIndex,
                    Math.min(millis(createdAt), receivedMs),
                    visibilityRank == Rules.DELETED_VISIBILITY,
                    kindIndex < 0 || kindIndex == Rules.PRIVATE_MESSAGE_KIND,
                    value);
        }
    }

    static Content content(byte[] value) {
        return read(CONTENT, value);
    }

    /** Merge an objection into a user; return its id. */
    static String learnObjection(Facts.User user, byte[] value) {
        Objection record = read(OBJECTION, value);
        int flags = 0;
        if (record.action.equals("withdrawn")) {
            flags = Facts.WITHDRAWN;
        } else if (record.products == null || record.products.isEmpty()) {
            flags = Rules.ALL_PRODUCTS;
        } else {
            for (String each : record.products) {
                int index = Rules.PRODUCTS.indexOf(each);
                flags |= index < 0 ? Rules.ALL_PRODUCTS : 1 << index;
            }
        }
        user.objections.merge(record.objectionId, flags, (known, news) -> known | news);
        return record.objectionId;
    }

    /** Merge what is said of an account's age into its user. */
    static void learnAge(Facts.User user, byte[] value, long receivedMs) {
        AccountAge record = read(AGE, value);
        if ("deleted".equals(record.account)) {
            user.deleted = true;
            return;
        }
        int none = Facts.Statement.NO_DAY;
        int birthDay = record.birthDate == null ? none : day(record.birthDate);
        int band = birthDay != none || record.ageBand == null ? 0 : BANDS.getOrDefault(record.ageBand, 0);
        boolean dated = band == Facts.Statement.ADULT && record.adultSince != null;
        Facts.Level news = new Facts.Level();
        news.observedMs = Math.min(millis(record.observedAt), receivedMs);
        news.statements.add(
                new Facts.Statement(
                        birthDay,
                        band,
                        dated ? day(record.adultSince) : none,
                        record.country == null ? "" : record.country));
        news.adultObservedMs =
                band == Facts.Statement.ADULT ? news.observedMs : Facts.NEVER_MS;
        int index = record.assurance == null ? 0 : ASSURANCES.get(record.assurance);
        if (user.levels[index] == null) {
            user.levels[index] = news;
        } else {
            user.levels[index].merge(news);
        }
    }

    /** Merge a notice into a user; return its id. */
    static String learnNotice(Facts.User user, byte[] value, long receivedMs) {
        Notice record = read(NOTICE, value);
        user.noticeMs =
                Math.min(user.noticeMs, Math.min(millis(record.deliveredAt), receivedMs));
        return record.noticeId;
    }

    static byte[] eligibility(String userId, Facts.User user) {
        return write(
                out -> {
                    out.writeStringField("user_id", userId);
                    out.writeNumberField("epoch", user.epoch);
                    TreeSet<String> all = new TreeSet<>();
                    for (int each : user.reasons) {
                        all.addAll(Rules.names(each));
                    }
                    out.writeBooleanField("eligible", all.isEmpty());
                    names(out, "reasons", all);
                    out.writeObjectFieldStart("products");
                    for (int index = 0; index < user.reasons.length; index++) {
                        names(out, Rules.PRODUCTS.get(index), Rules.names(user.reasons[index]));
                    }
                    out.writeEndObject();
                    out.writeStringField("decided_at", Instant.ofEpochMilli(user.decidedMs).toString());
                    out.writeObjectFieldStart("cause");
                    out.writeStringField("topic", user.causeTopic);
                    out.writeNumberField("partition", user.causePartition);
                    out.writeNumberField("offset", user.causeOffset);
                    out.writeStringField("id", user.causeId);
                    out.writeEndObject();
                });
    }

    static byte[] trainingUser(String userId, String product, long epoch) {
        return write(
                out -> {
                    out.writeStringField("user_id", userId);
                    out.writeStringField("product", product);
                    out.writeNumberField("epoch", epoch);
                });
    }

    static byte[] trainingContent(String userId, String contentId, Facts.Item item, long epoch) {
        Content record = content(item.value());
        return write(
                out -> {
                    out.writeStringField("content_id", contentId);
                    out.writeStringField("user_id", userId);
                    out.writeNumberField("revision", item.revision());
                    out.writeStringField("product", record.product);
                    out.writeStringField("kind", record.kind);
                    out.writeStringField("modality", record.modality);
                    out.writeStringField("language", record.language);
                    out.writeStringField(
                            "created_at", Instant.ofEpochMilli(item.createdMs()).toString());
                    out.writeNumberField("epoch", epoch);
                });
    }

    private interface Body {
        void to(JsonGenerator out) throws IOException;
    }

    private static byte[] write(Body body) {
        ByteArrayOutputStream bytes = new ByteArrayOutputStream(256);
        try (JsonGenerator out = FACTORY.createGenerator(bytes)) {
            out.writeStartObject();
            body.to(out);
            out.writeEndObject();
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
        return bytes.toByteArray();
    }

    private static void names(JsonGenerator out, String field, Iterable<String> names)
            throws IOException {
        out.writeArrayFieldStart(field);
        for (String each : names) {
            out.writeString(each);
        }
        out.writeEndArray();
    }

    private static <T> T read(ObjectReader reader, byte[] value) {
        try {
            return reader.readValue(value);
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }

    private static long millis(String text) {
        return OffsetDateTime.parse(text).toInstant().toEpochMilli();
    }

    private static int day(String text) {
        return (int) LocalDate.parse(text).toEpochDay();
    }
}
