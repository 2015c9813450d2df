import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.common.header.internals.RecordHeaders;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.processor.api.RecordMetadata;
import org.apache.kafka.streams.state.KeyValueIterator;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.RocksDBConfigSetter;
import org.apache.kafka.streams.state.Stores;
import org.rocksdb.BlockBasedTableConfig;
import org.rocksdb.Cache;
import org.rocksdb.LRUCache;
import org.rocksdb.Options;
import org.rocksdb.WriteBufferManager;

/**
 * The service's job in Kafka Streams, as its documentation shows the Processor API.
 *
 * <p>The four inputs lead to one processor with two stores in RocksDB, each with its changelog: users,
 * and items by user and content id, so that a user's items are found by their beginning. Memory is
 * bounded as "Memory Management" says. As many threads as processors. With exactly_once_v2 the
 * commits are short, as outputs are seen only with them, and so is the wait for records: a commit
 * comes only between waits. Outputs are partitioned by their own keys. The rules are a port of our
 * core as far as good records need them; dead letters, timers and receipts are left out.
 */
public final class Peer {
    private static final long COMMIT_EXACTLY_ONCE_MS = 25;
    private static final long COMMIT_AT_LEAST_ONCE_MS = 200;
    private static final long POLL_MS = 5;
    // By default a partition whose buffer of 1000 is full is paused, and the fetch under way then waits
    // half a second at the broker for partitions that have nothing, before it is asked for again.
    private static final int BUFFERED_RECORDS = 10_000;
    private static final int FETCH_WAIT_MS = 10;
    private static final String USERS = "users";
    private static final String ITEMS = "items";

    private Peer() {}

    public static void main(String[] arguments) {
        Map<String, String> environ = System.getenv();
        String prefix = environ.get("PEER_PREFIX");
        boolean exactlyOnce = "exactly-once".equals(environ.get("PEER_GUARANTEE"));
        Properties settings = new Properties();
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, prefix + "peer");
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, environ.get("PEER_BOOTSTRAP"));
        settings.put(StreamsConfig.STATE_DIR_CONFIG, environ.get("PEER_FOLDER") + "/kstreams");
        settings.put(
                StreamsConfig.PROCESSING_GUARANTEE_CONFIG,
                exactlyOnce ? StreamsConfig.EXACTLY_ONCE_V2 : StreamsConfig.AT_LEAST_ONCE);
        settings.put(
                StreamsConfig.COMMIT_INTERVAL_MS_CONFIG,
                exactlyOnce ? COMMIT_EXACTLY_ONCE_MS : COMMIT_AT_LEAST_ONCE_MS);
        settings.put(StreamsConfig.POLL_MS_CONFIG, POLL_MS);
        settings.put(
                StreamsConfig.NUM_STREAM_THREADS_CONFIG, Runtime.getRuntime().availableProcessors());
        settings.put(StreamsConfig.ROCKSDB_CONFIG_SETTER_CLASS_CONFIG, Bounded.class);
        settings.put(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG, "earliest");
        settings.put(ConsumerConfig.MAX_POLL_RECORDS_CONFIG, BUFFERED_RECORDS);
        settings.put(ConsumerConfig.FETCH_MAX_WAIT_MS_CONFIG, FETCH_WAIT_MS);
        settings.put(StreamsConfig.BUFFERED_RECORDS_PER_PARTITION_CONFIG, BUFFERED_RECORDS);
        KafkaStreams streams = new KafkaStreams(topology(prefix), settings);
        Runtime.getRuntime().addShutdownHook(new Thread(streams::close));
        streams.setUncaughtExceptionHandler(
                error -> {
                    error.printStackTrace();
                    Runtime.getRuntime().halt(1);
                    return null;
                });
        streams.start();
    }

    private static Topology topology(String prefix) {
        Topology topology = new Topology();
        String[] inputs = {"objections", "account-ages", "notices", "content"};
        for (String input : inputs) {
            topology.addSource(
                    input, new ByteArrayDeserializer(), new ByteArrayDeserializer(), prefix + input);
        }
        topology.addProcessor("decide", () -> new Decide(prefix), inputs);
        for (String store : new String[] {USERS, ITEMS}) {
            topology.addStateStore(
                    Stores.keyValueStoreBuilder(
                            Stores.persistentKeyValueStore(store),
                            Serdes.Bytes(),
                            Serdes.ByteArray()),
                    "decide");
        }
        for (String output : new String[] {"eligibility", "training-users", "training-content"}) {
            topology.addSink(
                    output,
                    prefix + output,
                    new ByteArraySerializer(),
                    new ByteArraySerializer(),
                    "decide");
        }
        return topology;
    }

    /** Bounds the memory of all stores together. */
    public static final class Bounded implements RocksDBConfigSetter {
        private static final long CACHE_BYTES = 128L << 20;
        private static final long WRITE_BUFFER_BYTES = 64L << 20;
        private static final Cache CACHE = new LRUCache(CACHE_BYTES, -1, false, 0.1);
        private static final WriteBufferManager BUFFERS =
                new WriteBufferManager(WRITE_BUFFER_BYTES, CACHE);

        @Override
        public void setConfig(String store, Options options, Map<String, Object> configs) {
            BlockBasedTableConfig table = (BlockBasedTableConfig) options.tableFormatConfig();
            table.setBlockCache(CACHE);
            table.setCacheIndexAndFilterBlocks(true);
            table.setPinTopLevelIndexAndFilter(true);
            options.setWriteBufferManager(BUFFERS);
            options.setTableFormatConfig(table);
        }

        @Override
        public void close(String store, Options options) {
            // The cache and the buffers are shared by all stores, and last as long as the process.
        }
    }

    /** Learns from a record, decides, and forwards what is to be published. */
    private static final class Decide implements Processor<byte[], byte[], byte[], byte[]> {
        private final String prefix;
        private ProcessorContext<byte[], byte[]> context;
        private KeyValueStore<Bytes, byte[]> users;
        private KeyValueStore<Bytes, byte[]> items;

        Decide(String prefix) {
            this.prefix = prefix;
        }

        @Override
        public void init(ProcessorContext<byte[], byte[]> given) {
            context = given;
            users = given.getStateStore(USERS);
            items = given.getStateStore(ITEMS);
        }

        @Override
        public void process(Record<byte[], byte[]> record) {
            RecordMetadata place = context.recordMetadata().orElseThrow();
            String topic = place.topic().substring(prefix.length());
            if (topic.equals("content")) {
                answer(record, place);
            } else {
                learn(topic, record, place);
            }
        }

        private void learn(String topic, Record<byte[], byte[]> record, RecordMetadata place) {
            String userId = text(record.key());
            byte[] stored = users.get(Bytes.wrap(record.key()));
            Facts.User user = stored == null ? new Facts.User() : Facts.User.fromBytes(stored);
            int[] reasons = user.reasons.clone();
            long adultFromMs = user.adultFromMs;
            String causeId = null;
            switch (topic) {
                case "objections" -> causeId = Records.learnObjection(user, record.value());
                case "notices" ->
                        causeId = Records.learnNotice(user, record.value(), record.timestamp());
                default -> Records.learnAge(user, record.value(), record.timestamp());
            }
            boolean changed = decide(user, stored == null, place, causeId);
            users.put(Bytes.wrap(record.key()), user.toBytes());
            publishDecision(record, userId, user);
            for (int index = 0; index < reasons.length; index++) {
                boolean stood = stored != null && reasons[index] == 0;
                boolean allowed = user.reasons[index] == 0;
                if (allowed != stood) {
                    publishUser(record, userId, Rules.PRODUCTS.get(index), user.epoch, allowed);
                }
            }
            if (stored == null || !changed) {
                return;
            }
            byte[] start = itemKey(record.key(), "");
            try (KeyValueIterator<Bytes, byte[]> found =
                    items.prefixScan(Bytes.wrap(start), Serdes.Bytes().serializer())) {
                found.forEachRemaining(
                        each -> {
                            Facts.Item item = Facts.Item.fromBytes(each.value);
                            boolean allowed = Rules.allows(item, user.reasons, user.adultFromMs);
                            if (allowed != Rules.allows(item, reasons, adultFromMs)) {
                                byte[] key = each.key.get();
                                String contentId =
                                        new String(
                                                key,
                                                start.length,
                                                key.length - start.length,
                                                StandardCharsets.UTF_8);
                                publishItem(record, userId, contentId, item, user.epoch, allowed);
                            }
                        });
            }
        }

        private void answer(Record<byte[], byte[]> record, RecordMetadata place) {
            Records.Content content = Records.content(record.value());
            Facts.Item item = content.item(record.value(), record.timestamp());
            String userId = text(record.key());
            byte[] stored = users.get(Bytes.wrap(record.key()));
            Facts.User user = stored == null ? new Facts.User() : Facts.User.fromBytes(stored);
            if (stored == null) {
                decide(user, true, place, content.contentId());
                users.put(Bytes.wrap(record.key()), user.toBytes());
                publishDecision(record, userId, user);
            }
            Bytes key = Bytes.wrap(itemKey(record.key(), content.contentId()));
            byte[] known = items.get(key);
            if (known != null) {
                item = Facts.Item.fromBytes(known).merge(item);
            } else if (item.privateMessage()) {
                return;
            }
            items.put(key, item.toBytes());
            boolean allowed = Rules.allows(item, user.reasons, user.adultFromMs);
            publishItem(record, userId, content.contentId(), item, user.epoch, allowed);
        }

        /** Decide on a user; return whether the decision changed. Its epoch grows with it. */
        private boolean decide(
                Facts.User user, boolean first, RecordMetadata place, String causeId) {
            int[] reasons = user.reasons.clone();
            long adultFromMs = user.adultFromMs;
            long nowMs = System.currentTimeMillis();
            Rules.decide(user, nowMs);
            boolean same =
                    java.util.Arrays.equals(reasons, user.reasons)
                            && adultFromMs == user.adultFromMs;
            if (!first && same) {
                return false;
            }
            user.epoch++;
            user.decidedMs = nowMs;
            user.causeTopic = place.topic();
            user.causePartition = place.partition();
            user.causeOffset = place.offset();
            user.causeId = causeId;
            return true;
        }

        private void publishDecision(
                Record<byte[], byte[]> record, String userId, Facts.User user) {
            String id = "eligibility/" + userId + "/" + user.epoch;
            RecordHeaders headers = headers(record, id, "eligibility.decided", userId, user.epoch);
            publish("eligibility", userId, Records.eligibility(userId, user), record, headers);
        }

        private void publishUser(
                Record<byte[], byte[]> record,
                String userId,
                String product,
                long epoch,
                boolean allowed) {
            String key = product + "/" + userId;
            String what = allowed ? "record" : "tombstone";
            String id = "training-users/" + key + "/" + epoch + "/" + what;
            String type = allowed ? "user.allowed" : "user.purged";
            byte[] value = allowed ? Records.trainingUser(userId, product, epoch) : null;
            publish("training-users", key, value, record, headers(record, id, type, userId, epoch));
        }

        private void publishItem(
                Record<byte[], byte[]> record,
                String userId,
                String contentId,
                Facts.Item item,
                long epoch,
                boolean allowed) {
            String what = allowed ? "record" : "tombstone";
            String id =
                    "training-content/" + contentId + "/" + epoch + "/" + item.revision() + "/" + what;
            String type = allowed ? "content.allowed" : "content.purged";
            RecordHeaders headers = headers(record, id, type, userId, epoch);
            headers.add("objections_revision", bytes(Long.toString(item.revision())));
            byte[] value =
                    allowed ? Records.trainingContent(userId, contentId, item, epoch) : null;
            publish("training-content", contentId, value, record, headers);
        }

        private void publish(
                String output,
                String key,
                byte[] value,
                Record<byte[], byte[]> record,
                RecordHeaders headers) {
            context.forward(new Record<>(bytes(key), value, record.timestamp(), headers), output);
        }

        private static RecordHeaders headers(
                Record<byte[], byte[]> record, String id, String type, String userId, long epoch) {
            RecordHeaders headers = new RecordHeaders();
            headers.add("ce_specversion", bytes("1.0"));
            headers.add("ce_source", bytes("/peer"));
            headers.add("ce_time", bytes(Instant.now().toString()));
            headers.add("ce_id", bytes(id));
            headers.add("ce_type", bytes(type));
            headers.add("ce_subject", bytes(userId));
            headers.add("objections_epoch", bytes(Long.toString(epoch)));
            headers.add("objections_received_at", bytes(Long.toString(record.timestamp())));
            return headers;
        }

        private static byte[] itemKey(byte[] userId, String contentId) {
            byte[] content = bytes(contentId);
            byte[] key = java.util.Arrays.copyOf(userId, userId.length + 1 + content.length);
            System.arraycopy(content, 0, key, userId.length + 1, content.length);
            return key;
        }

        private static byte[] bytes(String text) {
            return text.getBytes(StandardCharsets.UTF_8);
        }

        private static String text(byte[] bytes) {
            return new String(bytes, StandardCharsets.UTF_8);
        }
    }
}
