CREATE TABLE hosts (host TEXT, region TEXT) WITH (path = 'hosts.csv'); SELECT * FROM drift WHERE is_anomaly AND score > 3; SHOW SOURCES; DROP VIEW busy
