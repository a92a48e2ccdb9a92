package peers;

import com.sun.management.OperatingSystemMXBean;
import java.io.BufferedReader;
import java.io.IOException;
import java.lang.management.ManagementFactory;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.atomic.AtomicLongArray;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.table.api.TableDescriptor;
import org.apache.flink.table.api.bridge.java.StreamTableEnvironment;
import org.apache.flink.table.data.GenericRowData;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.data.StringData;
import org.apache.flink.table.data.TimestampData;

/**
 * Runs the queries on Flink SQL, in a cluster within this process.
 *
 * <p>The clock runs from when the first source is ready until the last sink has met the end of its input: starting a job
 * and a cluster is left out, which the other engines do not have.
 */
public final class Runner {
    private static final OperatingSystemMXBean SYSTEM =
            (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();

    /** Nanoseconds of the clock and of processor time, at the begin and at the end. */
    private static final AtomicLongArray TIMES = new AtomicLongArray(4);

    private static final String WATERMARK = "WATERMARK FOR date_time AS date_time - INTERVAL '4' SECOND";
    private static final Map<String, String> TABLES = Map.of(
            "bid",
            "auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, url STRING, date_time TIMESTAMP(3), "
                    + "extra STRING, " + WATERMARK,
            "person",
            "id BIGINT, name STRING, email_address STRING, credit_card STRING, city STRING, state STRING, "
                    + "date_time TIMESTAMP(3), extra STRING, " + WATERMARK,
            "auction",
            "id BIGINT, item_name STRING, description STRING, initial_bid BIGINT, reserve BIGINT, "
                    + "date_time TIMESTAMP(3), expires TIMESTAMP(3), seller BIGINT, category BIGINT, extra STRING, "
                    + WATERMARK,
            "load",
            "ts TIMESTAMP(3), host STRING, `value` DOUBLE, WATERMARK FOR ts AS ts - INTERVAL '2' SECOND");

    private static final String HOP_COUNT =
            "SELECT auction, count(*) AS num, window_start, window_end FROM TABLE(HOP(TABLE bid, "
                    + "DESCRIPTOR(date_time), INTERVAL '2' SECOND, INTERVAL '10' SECOND)) "
                    + "GROUP BY auction, window_start, window_end";
    private static final String TUMBLE = "SELECT host, window_start, count(*) AS n, avg(`value`) AS mean, "
            + "stddev_samp(`value`) AS deviation, min(`value`) AS least, max(`value`) AS most "
            + "FROM TABLE(TUMBLE(TABLE `load`, DESCRIPTOR(ts), INTERVAL '10' SECOND)) "
            + "GROUP BY host, window_start, window_end";
    private static final Map<String, String> QUERIES = Map.of(
            "q0", "SELECT auction, bidder, price, date_time, extra FROM bid",
            "q1", "SELECT auction, bidder, 0.908E0 * price AS price, date_time, extra FROM bid",
            "q2", "SELECT auction, price FROM bid WHERE MOD(auction, 123) = 0",
            "q5",
            "SELECT a.auction, a.num, a.window_end FROM (" + HOP_COUNT + ") a JOIN (SELECT max(num) AS most, "
                    + "window_start, window_end FROM (" + HOP_COUNT + ") GROUP BY window_start, window_end) m "
                    + "ON a.window_start = m.window_start AND a.window_end = m.window_end AND a.num >= m.most",
            // An interval join, whose state is cleared as time goes on: the time of a window is its last millisecond.
            "q7",
            "SELECT b.auction, b.price, b.bidder, b.date_time, b.extra FROM bid b JOIN (SELECT max(price) AS most, "
                    + "window_time FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(date_time), INTERVAL '10' SECOND)) "
                    + "GROUP BY window_start, window_end, window_time) m ON b.price = m.most "
                    + "AND b.date_time BETWEEN m.window_time - INTERVAL '9.999' SECOND(1, 3) AND m.window_time",
            "q8",
            "SELECT p.id, p.name, p.window_start FROM (SELECT id, name, window_start, window_end FROM TABLE(TUMBLE("
                    + "TABLE person, DESCRIPTOR(date_time), INTERVAL '10' SECOND)) "
                    + "GROUP BY id, name, window_start, window_end) p JOIN (SELECT seller, window_start, window_end "
                    + "FROM TABLE(TUMBLE(TABLE auction, DESCRIPTOR(date_time), INTERVAL '10' SECOND)) "
                    + "GROUP BY seller, window_start, window_end) a ON p.id = a.seller "
                    + "AND p.window_start = a.window_start AND p.window_end = a.window_end",
            "q11",
            "SELECT bidder, count(*) AS bid_count, window_start, window_end FROM TABLE(SESSION(TABLE bid "
                    + "PARTITION BY bidder, DESCRIPTOR(date_time), INTERVAL '10' SECOND)) "
                    + "GROUP BY bidder, window_start, window_end",
            "q12",
            "SELECT bidder, count(*) AS bid_count, window_start, window_end FROM TABLE(TUMBLE(TABLE bid, "
                    + "DESCRIPTOR(date_time), INTERVAL '10' SECOND)) GROUP BY bidder, window_start, window_end");

    private Runner() {}

    public static void main(String[] words) throws Exception {
        Path data = Path.of(argument(words, "--data"));
        String query = argument(words, "--query");
        int workers = Integer.parseInt(argument(words, "--workers"));
        int rounds = Integer.parseInt(argument(words, "--rounds"));
        boolean tumbles = query.startsWith("tumble_");
        String sql = tumbles ? TUMBLE : QUERIES.get(query);
        List<String> sources = tumbles ? List.of("load") : query.equals("q8") ? List.of("person", "auction") : List.of("bid");
        long events = 0;
        for (String source : sources) {
            String file = tumbles ? "load_" + query.substring("tumble_".length()) : source;
            RowData[] rows = read(data.resolve(file + ".tsv"), types(source));
            Memory.ROWS.put(source, rows);
            events += rows.length;
        }
        Memory.keep = true;
        run(sources, sql, workers);
        Files.write(Path.of(argument(words, "--results") + ".tsv"), Memory.KEPT);
        Memory.KEPT.clear();
        Memory.keep = false;
        List<String> seconds = new ArrayList<>();
        List<String> busy = new ArrayList<>();
        long results = 0;
        for (int round = 0; round < rounds; round++) {
            // What the rounds before have left is not this one's.
            System.gc();
            results = run(sources, sql, workers);
            seconds.add(Double.toString((TIMES.get(2) - TIMES.get(0)) / 1e9));
            busy.add(Double.toString((TIMES.get(3) - TIMES.get(1)) / 1e9));
        }
        System.out.printf(
                "%n{\"events\":%d,\"rows\":%d,\"seconds\":[%s],\"cpu\":[%s],\"notes\":\"\"}%n",
                events, results, String.join(",", seconds), String.join(",", busy));
        System.exit(0);
    }

    private static String argument(String[] words, String name) {
        return words[List.of(words).indexOf(name) + 1];
    }

    private static long run(List<String> sources, String sql, int workers) throws Exception {
        Configuration settings = new Configuration();
        settings.setString("pipeline.object-reuse", "true");
        settings.setString("table.exec.state.ttl", "0");
        settings.setString("taskmanager.memory.managed.size", "1g");
        settings.setString("taskmanager.memory.network.max", "256m");
        settings.setString("taskmanager.numberOfTaskSlots", Integer.toString(workers));
        StreamExecutionEnvironment env = StreamExecutionEnvironment.createLocalEnvironment(workers, settings);
        StreamTableEnvironment tables = StreamTableEnvironment.create(env);
        for (String source : sources) {
            tables.executeSql("CREATE TABLE `" + source + "` (" + TABLES.get(source) + ") WITH ('connector' = 'memory')");
        }
        Memory.COUNTED.reset();
        for (int place = 0; place < TIMES.length(); place++) {
            TIMES.set(place, 0);
        }
        tables.sqlQuery(sql).insertInto(TableDescriptor.forConnector("memory").build()).execute().await();
        return Memory.COUNTED.sum();
    }

    /** A source is ready. */
    static void begin() {
        if (TIMES.compareAndSet(0, 0, System.nanoTime())) {
            TIMES.set(1, SYSTEM.getProcessCpuTime());
        }
    }

    /** A sink has met the end of its input. */
    static synchronized void end() {
        TIMES.set(2, System.nanoTime());
        TIMES.set(3, SYSTEM.getProcessCpuTime());
    }

    /** The types of the columns of a table, by their names in its DDL. */
    private static List<String> types(String source) {
        List<String> types = new ArrayList<>();
        for (String column : TABLES.get(source).split(", ")) {
            if (!column.startsWith("WATERMARK")) {
                types.add(column.split(" ")[1]);
            }
        }
        return types;
    }

    /** Rows as text, a line each: columns between tabs, times in milliseconds since 1970. */
    private static RowData[] read(Path path, List<String> types) throws IOException {
        List<RowData> rows = new ArrayList<>();
        try (BufferedReader lines = Files.newBufferedReader(path)) {
            for (String line = lines.readLine(); line != null; line = lines.readLine()) {
                String[] cells = line.split("\t", -1);
                GenericRowData row = new GenericRowData(types.size());
                for (int place = 0; place < cells.length; place++) {
                    row.setField(place, cell(cells[place], types.get(place)));
                }
                rows.add(row);
            }
        }
        return rows.toArray(new RowData[0]);
    }

    private static Object cell(String cell, String type) {
        return switch (type) {
            case "BIGINT" -> Long.parseLong(cell);
            case "DOUBLE" -> Double.parseDouble(cell);
            case "STRING" -> {
                StringData text = StringData.fromString(cell);
                // Makes its bytes, which is how the engine reads it.
                text.toBytes();
                yield text;
            }
            default -> TimestampData.fromEpochMillis(Long.parseLong(cell));
        };
    }
}
