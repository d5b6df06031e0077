package jobs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// probePatience is how long a Status may take before the launcher counts as ill.
const probePatience = 2 * time.Second

// Metrics answers GET and HEAD of /metrics (Prometheus's text format 0.0.4), /healthz (200
// while the launcher goes on), /readyz (200 when all ranks are ready, else 503 and how
// many are) and /status (JSON).
func Metrics(status func() Status) http.Handler {
	m := &metrics{status: status, room: make(chan struct{}, 8)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", m.with(func(w http.ResponseWriter, s Status) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		_, _ = io.WriteString(w, exposition(s))
	}))
	mux.HandleFunc("GET /healthz", m.with(func(w http.ResponseWriter, s Status) {
		text(w, http.StatusOK, "ok: "+string(s.State))
	}))
	mux.HandleFunc("GET /readyz", m.with(func(w http.ResponseWriter, s Status) {
		_, ready := s.Up()
		code := http.StatusServiceUnavailable
		if s.Ready() {
			code = http.StatusOK
		}
		text(w, code, fmt.Sprintf("%s, %d of %d ranks ready", s.State, ready, s.World))
	}))
	mux.HandleFunc("GET /status", m.with(func(w http.ResponseWriter, s Status) {
		answer(w, http.StatusOK, s)
	}))
	return mux
}

type metrics struct {
	status func() Status
	room   chan struct{}
}

// with calls f with a status, or answers 503 if the launcher does not give one in time.
// Those that are never given are bounded in number.
func (m *metrics) with(f func(http.ResponseWriter, Status)) http.HandlerFunc {
	return func(w http.ResponseWriter, q *http.Request) {
		w.Header().Set("X-Content-Type-Options", "nosniff")
		select {
		case m.room <- struct{}{}:
		default:
			text(w, http.StatusServiceUnavailable, "too many requests at the same time")
			return
		}
		got := make(chan Status, 1)
		go func() {
			defer func() { <-m.room }()
			s := m.status()
			s.Schema = Schema
			got <- s
		}()
		patience := time.NewTimer(probePatience)
		defer patience.Stop()
		select {
		case s := <-got:
			f(w, s)
		case <-patience.C:
			text(w, http.StatusServiceUnavailable, "the launcher does not answer")
		case <-q.Context().Done():
		}
	}
}

func text(w http.ResponseWriter, code int, line string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	_, _ = io.WriteString(w, line+"\n")
}

// exposition writes a status in Prometheus's text format.
// Source: prometheus.io/docs/instrumenting/exposition_formats, "Text format details".
func exposition(s Status) string {
	var e exporter
	up, ready := s.Up()
	joined := 0
	for _, n := range s.Nodes {
		if n.Joined {
			joined++
		}
	}
	e.family("wanrun_job_info", "gauge", "The job; always 1.")
	e.sample(1, "id", s.ID, "name", s.Name)
	e.family("wanrun_state", "gauge", "1 for the state that the job is in.")
	for _, state := range []State{Gathering, Running, Restarting, Ending} {
		e.sample(oneIf(s.State == state), "state", string(state))
	}
	e.one("wanrun_started_timestamp_seconds", "gauge", "When the launcher started.", unixSeconds(s.Started))
	e.one("wanrun_world_size", "gauge", "Ranks of the job, 0 until the nodes have met.", float64(s.World))
	e.one("wanrun_nodes", "gauge", "Nodes of the job.", float64(len(s.Nodes)))
	e.one("wanrun_nodes_joined", "gauge", "Nodes that are there.", float64(joined))
	e.one("wanrun_ranks_up", "gauge", "Ranks whose processes run.", float64(up))
	e.one("wanrun_ranks_ready", "gauge", "Ranks that work.", float64(ready))
	e.one("wanrun_ready", "gauge", "1 when all ranks are ready.", oneIf(s.Ready()))
	e.one("wanrun_restarts_total", "counter", "Restarts of the group so far.", float64(s.Restarts))
	if s.StartSeconds != nil {
		e.one("wanrun_start_seconds", "gauge", "From the launcher's start, or the end of the attempt before, until all ranks ran.", *s.StartSeconds)
	}
	if s.TeardownSeconds != nil {
		e.one("wanrun_teardown_seconds", "gauge", "From what ended the latest attempt to the end of its last rank.", *s.TeardownSeconds)
	}
	if s.Exit != nil {
		e.one("wanrun_exit_code", "gauge", "The job's exit code, once it is known.", float64(s.Exit.Code))
	}
	e.family("wanrun_node_heartbeat_age_seconds", "gauge", "Since a node was last heard of.")
	for _, n := range s.Nodes {
		if n.Age != nil {
			e.sample(*n.Age, "node", strconv.Itoa(n.Node), "host", n.Name)
		}
	}
	for _, f := range rankFamilies {
		e.family(f.name, f.kind, f.help)
		for _, r := range s.Ranks {
			if v, known := f.value(r); known {
				e.sample(v, "rank", strconv.Itoa(r.Rank), "node", strconv.Itoa(r.Node), "host", r.Host)
			}
		}
	}
	return e.text.String()
}

var rankFamilies = []struct {
	name, kind, help string
	value            func(Rank) (v float64, known bool)
}{
	{"wanrun_rank_up", "gauge", "1 if the rank's process runs.", func(r Rank) (float64, bool) { return oneIf(r.State == RankUp), true }},
	{"wanrun_rank_heartbeat_age_seconds", "gauge", "Since the rank's last sign of life.", func(r Rank) (float64, bool) { return known(r.Age) }},
	{"wanrun_rank_rss_bytes", "gauge", "Resident memory of the rank's process.", func(r Rank) (float64, bool) { return known(r.RSS) }},
	{"wanrun_rank_rss_peak_bytes", "gauge", "Its peak.", func(r Rank) (float64, bool) { return known(r.RSSPeak) }},
	{"wanrun_rank_cpu_seconds_total", "counter", "CPU time of the rank's process and what it started.", func(r Rank) (float64, bool) { return known(r.CPU) }},
	{"wanrun_rank_rss_anonymous_bytes", "gauge", "Of that, what no file is behind.", func(r Rank) (float64, bool) { return known(r.Anonymous) }},
	{"wanrun_rank_arena_bytes", "gauge", "What is in use of the memory that the rank reserved.", func(r Rank) (float64, bool) { return known(r.Arena) }},
	{"wanrun_rank_reserved_bytes", "gauge", "All of that.", func(r Rank) (float64, bool) { return known(r.Reserved) }},
	{"wanrun_rank_gpu_memory_bytes", "gauge", "Memory of the GPU that the rank holds.", func(r Rank) (float64, bool) { return known(r.GPU) }},
	{"wanrun_rank_gpu_used_bytes", "gauge", "Memory of the rank's GPU that is in use by all processes.", func(r Rank) (float64, bool) { return known(r.GPUUsed) }},
	{"wanrun_rank_gpu_total_bytes", "gauge", "Memory of the rank's GPU.", func(r Rank) (float64, bool) { return known(r.GPUTotal) }},
	{"wanrun_log_bytes_total", "counter", "Bytes of lines that the rank has printed.", func(r Rank) (float64, bool) { return float64(r.LogBytes), true }},
	{"wanrun_log_lines_dropped_total", "counter", "Lines that did not reach the console, because nobody took them.", func(r Rank) (float64, bool) { return float64(r.LogDropped), true }},
}

func known[T int64 | float64](p *T) (float64, bool) {
	if p == nil {
		return 0, false
	}
	return float64(*p), true
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func unixSeconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixNano()) / 1e9
}

// exporter writes families of samples. A family without one is left out.
type exporter struct {
	text             strings.Builder
	name, kind, help string
	begun            bool
}

func (e *exporter) family(name, kind, help string) {
	e.name, e.kind, e.help, e.begun = name, kind, help, false
}

func (e *exporter) one(name, kind, help string, v float64) {
	e.family(name, kind, help)
	e.sample(v)
}

func (e *exporter) sample(v float64, labels ...string) {
	if !e.begun {
		fmt.Fprintf(&e.text, "# HELP %s %s\n# TYPE %s %s\n", e.name, e.help, e.name, e.kind)
		e.begun = true
	}
	e.text.WriteString(e.name)
	for i := 0; i < len(labels); i += 2 {
		if i == 0 {
			e.text.WriteByte('{')
		} else {
			e.text.WriteByte(',')
		}
		value := strings.ToValidUTF8(labels[i+1], "\uFFFD")
		e.text.WriteString(labels[i] + `="` + labelEscaper.Replace(value) + `"`)
	}
	if len(labels) > 0 {
		e.text.WriteByte('}')
	}
	e.text.WriteString(" " + strconv.FormatFloat(v, 'g', -1, 64) + "\n")
}

var labelEscaper = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

// MetricsServer serves a handler until Close.
type MetricsServer struct {
	server *http.Server
	addr   net.Addr
	served chan struct{}
}

// ServeMetrics listens on addr, "HOST:PORT"; without a host it is this machine's
// loopback. Connections are short and few: what is slow is cut.
func ServeMetrics(addr string, h http.Handler) (*MetricsServer, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("address %q of metrics, want HOST:PORT or :PORT for the loopback: %w", addr, err)
	}
	hosts := []string{host}
	if host == "" {
		hosts = []string{"127.0.0.1", "::1"} // the second where there is no IPv4
	}
	var listener net.Listener
	var errs []error
	for _, host := range hosts {
		if listener, err = net.Listen("tcp", net.JoinHostPort(host, port)); err == nil {
			break
		}
		errs = append(errs, err)
		if !errors.Is(err, syscall.EADDRNOTAVAIL) && !errors.Is(err, syscall.EAFNOSUPPORT) {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", errors.Join(errs...))
	}
	if tcp, ok := listener.Addr().(*net.TCPAddr); ok && tcp.IP.IsLoopback() {
		h = localNames(h)
	}
	m := &MetricsServer{addr: listener.Addr(), served: make(chan struct{}), server: &http.Server{
		Handler: h, ReadHeaderTimeout: 2 * time.Second, ReadTimeout: 5 * time.Second, WriteTimeout: 10 * time.Second,
		IdleTimeout: 2 * time.Second, MaxHeaderBytes: 8 << 10, ErrorLog: quiet(),
	}}
	m.server.SetKeepAlivesEnabled(false)
	go func() {
		defer close(m.served)
		_ = m.server.Serve(newLimit(listener, maxConnections))
	}()
	return m, nil
}

// Addr is where it listens.
func (m *MetricsServer) Addr() net.Addr { return m.addr }

// Close ends it. An answer that is under way has a moment to end.
func (m *MetricsServer) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	if m.server.Shutdown(ctx) != nil {
		_ = m.server.Close()
	}
	<-m.served
}

// localNames refuses requests for a name that is not the loopback's: a page in a browser
// can have its own name resolved to 127.0.0.1, and then read what only this machine's
// users are to see.
func localNames(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		host := q.Host
		if name, _, err := net.SplitHostPort(host); err == nil {
			host = name
		}
		if host != "localhost" && host != "" && net.ParseIP(strings.Trim(host, "[]")) == nil {
			text(w, http.StatusForbidden, "ask for localhost or for an address")
			return
		}
		h.ServeHTTP(w, q)
	})
}
