package telemetry

// URLs is where the signals of an exporter go.
func URLs(o *OTLP) map[string]string { return o.urls() }

// Reparse reads a traceparent and writes it again; empty if it is none.
func Reparse(s string) string {
	sc, ok := parse(s)
	if !ok {
		return ""
	}
	return format(sc)
}
