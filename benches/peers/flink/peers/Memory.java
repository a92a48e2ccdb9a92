package peers;

import java.io.IOException;
import java.util.List;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.atomic.LongAdder;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.connector.sink2.Sink;
import org.apache.flink.api.connector.sink2.SinkWriter;
import org.apache.flink.api.connector.sink2.WriterInitContext;
import org.apache.flink.api.connector.source.SourceReaderContext;
import org.apache.flink.configuration.ConfigOption;
import org.apache.flink.connector.datagen.source.DataGeneratorSource;
import org.apache.flink.connector.datagen.source.GeneratorFunction;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.table.connector.ChangelogMode;
import org.apache.flink.table.connector.ProviderContext;
import org.apache.flink.table.connector.sink.DynamicTableSink;
import org.apache.flink.table.connector.sink.SinkV2Provider;
import org.apache.flink.table.connector.source.DataStreamScanProvider;
import org.apache.flink.table.connector.source.DynamicTableSource;
import org.apache.flink.table.connector.source.ScanTableSource;
import org.apache.flink.table.data.RowData;
import org.apache.flink.table.factories.DynamicTableSinkFactory;
import org.apache.flink.table.factories.DynamicTableSourceFactory;
import org.apache.flink.table.runtime.typeutils.InternalTypeInfo;
import org.apache.flink.table.types.logical.LogicalType;
import org.apache.flink.table.types.logical.RowType;

/** A connector whose rows are in this process: tables read what was loaded under their name, sinks count or keep rows. */
public final class Memory implements DynamicTableSourceFactory, DynamicTableSinkFactory {
    /** Rows by table. */
    static final ConcurrentHashMap<String, RowData[]> ROWS = new ConcurrentHashMap<>();

    /** Whether sinks keep rows, as text, or count them only. */
    static volatile boolean keep;

    static final ConcurrentLinkedQueue<String> KEPT = new ConcurrentLinkedQueue<>();
    static final LongAdder COUNTED = new LongAdder();

    @Override
    public String factoryIdentifier() {
        return "memory";
    }

    @Override
    public Set<ConfigOption<?>> requiredOptions() {
        return Set.of();
    }

    @Override
    public Set<ConfigOption<?>> optionalOptions() {
        return Set.of();
    }

    @Override
    public DynamicTableSource createDynamicTableSource(Context context) {
        RowType type = (RowType) context.getPhysicalRowDataType().getLogicalType();
        return new TableSource(context.getObjectIdentifier().getObjectName(), type);
    }

    @Override
    public DynamicTableSink createDynamicTableSink(Context context) {
        return new TableSink((RowType) context.getPhysicalRowDataType().getLogicalType());
    }

    private record TableSource(String name, RowType type) implements ScanTableSource {
        @Override
        public ChangelogMode getChangelogMode() {
            return ChangelogMode.insertOnly();
        }

        @Override
        public ScanRuntimeProvider getScanRuntimeProvider(ScanContext context) {
            return new DataStreamScanProvider() {
                @Override
                public DataStream<RowData> produceDataStream(ProviderContext provider, StreamExecutionEnvironment env) {
                    long rows = ROWS.get(name).length;
                    Generator generator = new Generator(name, env.getParallelism());
                    InternalTypeInfo<RowData> info = InternalTypeInfo.of(type);
                    return env.fromSource(
                            new DataGeneratorSource<>(generator, rows, info), WatermarkStrategy.noWatermarks(), name, info);
                }

                @Override
                public boolean isBounded() {
                    return true;
                }
            };
        }

        @Override
        public DynamicTableSource copy() {
            return this;
        }

        @Override
        public String asSummaryString() {
            return name;
        }
    }

    /** Gives rows by number. Readers get ranges of numbers, so that theirs are spread for all to be at the same time. */
    private static final class Generator implements GeneratorFunction<Long, RowData> {
        private final String name;
        private final int readers;
        private transient RowData[] rows;

        Generator(String name, int readers) {
            this.name = name;
            this.readers = readers;
        }

        @Override
        public void open(SourceReaderContext context) {
            rows = ROWS.get(name);
            Runner.begin();
        }

        @Override
        public RowData map(Long number) {
            int place = number.intValue();
            // The split of a reader begins at its share of all numbers; remainders go to the first splits.
            int share = rows.length / readers;
            if (readers == 1 || place >= share * readers) {
                return rows[place];
            }
            return rows[place % share * readers + place / share];
        }
    }

    private record TableSink(RowType type) implements DynamicTableSink {
        @Override
        public ChangelogMode getChangelogMode(ChangelogMode requested) {
            return ChangelogMode.insertOnly();
        }

        @Override
        public SinkRuntimeProvider getSinkRuntimeProvider(Context context) {
            return SinkV2Provider.of(new Collector(type.getChildren()));
        }

        @Override
        public DynamicTableSink copy() {
            return this;
        }

        @Override
        public String asSummaryString() {
            return "results";
        }
    }

    private static final class Collector implements Sink<RowData> {
        private final List<LogicalType> types;

        Collector(List<LogicalType> types) {
            this.types = List.copyOf(types);
        }

        @Override
        public SinkWriter<RowData> createWriter(WriterInitContext context) {
            return new SinkWriter<>() {
                private long rows;

                @Override
                public void write(RowData row, Context context) {
                    rows++;
                    if (keep) {
                        KEPT.add(text(row));
                    }
                }

                @Override
                public void flush(boolean endOfInput) throws IOException {
                    if (endOfInput) {
                        COUNTED.add(rows);
                        rows = 0;
                        Runner.end();
                    }
                }

                @Override
                public void close() {}
            };
        }

        private String text(RowData row) {
            StringBuilder text = new StringBuilder();
            for (int place = 0; place < types.size(); place++) {
                if (place > 0) {
                    text.append('\t');
                }
                if (row.isNullAt(place)) {
                    continue;
                }
                switch (types.get(place).getTypeRoot()) {
                    case BIGINT -> text.append(row.getLong(place));
                    case DOUBLE -> text.append(row.getDouble(place));
                    case TIMESTAMP_WITHOUT_TIME_ZONE -> text.append(row.getTimestamp(place, 3).getMillisecond());
                    default -> text.append(row.getString(place));
                }
            }
            return text.toString();
        }
    }
}
