package jobs

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// scrape reads Prometheus's text format, strictly: each family once with HELP, TYPE and
// at least one sample, no sample twice.
func scrape(text string) (map[string]float64, error) {
	values, types := map[string]float64{}, map[string]string{}
	family := ""
	if !strings.HasSuffix(text, "\n") {
		return nil, errors.New("no end of the last line")
	}
	for l := range strings.Lines(text) {
		l = strings.TrimSuffix(l, "\n")
		if rest, ok := strings.CutPrefix(l, "# HELP "); ok {
			name, _, _ := strings.Cut(rest, " ")
			if types[name] != "" {
				return nil, fmt.Errorf("family %s comes again", name)
			}
			family = name
			continue
		}
		if rest, ok := strings.CutPrefix(l, "# TYPE "); ok {
			name, kind, _ := strings.Cut(rest, " ")
			if name != family || kind != "gauge" && kind != "counter" {
				return nil, fmt.Errorf("line %q after the help of %s", l, family)
			}
			types[name] = kind
			if strings.HasSuffix(name, "_total") != (kind == "counter") {
				return nil, fmt.Errorf("%s is a %s", name, kind)
			}
			continue
		}
		name, rest := l, ""
		if i := strings.IndexAny(l, "{ "); i > 0 {
			name, rest = l[:i], l[i:]
		}
		if name != family || types[name] == "" {
			return nil, fmt.Errorf("sample %q in family %s", l, family)
		}
		key := name
		if strings.HasPrefix(rest, "{") {
			i := 1
			for rest[i] != '}' {
				eq := strings.Index(rest[i:], `="`)
				if eq < 1 {
					return nil, fmt.Errorf("labels of %q", l)
				}
				label := rest[i : i+eq]
				i += eq + 2
				var value strings.Builder
				for rest[i] != '"' {
					if rest[i] == '\\' {
						i++
						switch rest[i] {
						case 'n':
							value.WriteByte('\n')
						case '\\', '"':
							value.WriteByte(rest[i])
						default:
							return nil, fmt.Errorf("escape in %q", l)
						}
					} else {
						value.WriteByte(rest[i])
					}
					i++
				}
				key += "," + label + "=" + value.String()
				if i++; rest[i] == ',' {
					i++
				}
			}
			rest = rest[i+1:]
		}
		v, err := strconv.ParseFloat(strings.TrimPrefix(rest, " "), 64)
		if err != nil {
			return nil, fmt.Errorf("value of %q: %w", l, err)
		}
		if _, twice := values[key]; twice {
			return nil, fmt.Errorf("sample %s comes twice", key)
		}
		values[key] = v
	}
	return values, nil
}

func p[T any](v T) *T { return &v }

func TestExposition(t *testing.T) {
	host := "gpu \"07\"\\\n"
	s := Status{ID: "j", Name: "n", State: Running, Started: time.Unix(1700000000, 5e8), StartSeconds: p(0.25), Restarts: 2, World: 2,
		Nodes: []Node{{Node: 0, Name: host, Joined: true, Age: p(0.5)}, {Node: 1, Name: "gpu-08"}},
		Ranks: []Rank{
			{Rank: 0, Node: 0, Host: host, State: RankUp, Ready: true, Age: p(1.5), RSS: p(int64(1 << 40)), RSSPeak: p(int64(3)), CPU: p(7.25), GPU: p(int64(80 << 30)), LogBytes: 9, LogDropped: 1},
			{Rank: 1, Node: 1, Host: "\xff", State: RankEnded, Code: p(3)},
		}}
	got, err := scrape(exposition(s))
	if err != nil {
		t.Fatalf("%v in\n%s", err, exposition(s))
	}
	on0, on1 := ",rank=0,node=0,host="+host, ",rank=1,node=1,host=\uFFFD"
	want := map[string]float64{
		"wanrun_job_info,id=j,name=n": 1, "wanrun_state,state=gathering": 0, "wanrun_state,state=running": 1, "wanrun_state,state=restarting": 0, "wanrun_state,state=ending": 0,
		"wanrun_started_timestamp_seconds": 1700000000.5, "wanrun_world_size": 2, "wanrun_nodes": 2, "wanrun_nodes_joined": 1, "wanrun_ranks_up": 1, "wanrun_ranks_ready": 1, "wanrun_ready": 0,
		"wanrun_restarts_total": 2, "wanrun_start_seconds": 0.25, "wanrun_node_heartbeat_age_seconds,node=0,host=" + host: 0.5,
		"wanrun_rank_up" + on0: 1, "wanrun_rank_up" + on1: 0, "wanrun_rank_heartbeat_age_seconds" + on0: 1.5, "wanrun_rank_rss_bytes" + on0: 1 << 40, "wanrun_rank_rss_peak_bytes" + on0: 3,
		"wanrun_rank_cpu_seconds_total" + on0: 7.25, "wanrun_rank_gpu_memory_bytes" + on0: 80 << 30, "wanrun_log_bytes_total" + on0: 9, "wanrun_log_bytes_total" + on1: 0,
		"wanrun_log_lines_dropped_total" + on0: 1, "wanrun_log_lines_dropped_total" + on1: 0,
	}
	for key, v := range want {
		if w, ok := got[key]; !ok || w != v {
			t.Errorf("%q is %v (%v), want %v", key, w, ok, v)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d samples, want %d:\n%s", len(got), len(want), exposition(s))
	}
	s.TeardownSeconds, s.Exit = p(math.Pi), &Exit{Code: 77}
	if got, err = scrape(exposition(s)); err != nil || got["wanrun_teardown_seconds"] != math.Pi || got["wanrun_exit_code"] != 77 {
		t.Errorf("at the end: %v, %v", got, err)
	}
	if _, err := scrape(exposition(Status{})); err != nil {
		t.Errorf("empty status: %v", err)
	}
}

func serveMetrics(t *testing.T, addr string, status func() Status) string {
	t.Helper()
	m, err := ServeMetrics(addr, Metrics(status))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m.Addr().String()
}

func get(t *testing.T, addr, path, host string) (code int, body string) {
	t.Helper()
	q, err := http.NewRequest(http.MethodGet, "http://"+addr+path, nil)
	must(err)
	q.Host = host
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	a, err := client.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	data, err := io.ReadAll(a.Body)
	must(err)
	return a.StatusCode, string(data)
}

func TestMetricsServer(t *testing.T) {
	job := &fakeJob{status: Status{State: Gathering, World: 2, Ranks: []Rank{{State: RankUp, Ready: true}, {Rank: 1, State: RankStarting}}}}
	addr := serveMetrics(t, ":0", job.Status)
	if host, _, _ := net.SplitHostPort(addr); !net.ParseIP(host).IsLoopback() {
		t.Errorf("listens on %s, want the loopback", addr)
	}
	for _, tc := range []struct {
		path, host string
		code       int
		want       string
	}{
		{"/healthz", "", 200, "ok: gathering\n"},
		{"/readyz", "", 503, "gathering, 1 of 2 ranks ready\n"},
		{"/metrics", "localhost:9090", 200, "\nwanrun_ranks_ready 1\n"},
		{"/metrics", "[::1]:9090", 200, "\nwanrun_ranks_up 1\n"},
		{"/status", "127.0.0.1", 200, `"state":"gathering"`},
		{"/status", "evil.example", 403, "ask for localhost"},
		{"/", "", 404, ""},
	} {
		if code, body := get(t, addr, tc.path, tc.host); code != tc.code || !strings.Contains(body, tc.want) {
			t.Errorf("%s of %q: %d %q, want %d %q", tc.path, tc.host, code, body, tc.code, tc.want)
		}
	}
	job.mu.Lock()
	job.status = Status{State: Running, World: 1, Ranks: []Rank{{State: RankUp, Ready: true}}}
	job.mu.Unlock()
	if code, body := get(t, addr, "/readyz", ""); code != 200 || body != "running, 1 of 1 ranks ready\n" {
		t.Errorf("/readyz: %d %q", code, body)
	}
	_, body := get(t, addr, "/status", "")
	var s Status
	if err := json.Unmarshal([]byte(body), &s); err != nil || s.Schema != Schema || s.Ranks[0].State != RankUp {
		t.Errorf("/status: %+v, %v", s, err)
	}
	for _, addr := range []string{"9090", "nowhere.invalid:1", addr, "127.0.0.1:99999"} {
		if m, err := ServeMetrics(addr, http.NotFoundHandler()); err == nil {
			m.Close()
			t.Errorf("ServeMetrics(%q): no error", addr)
		}
	}
}

// A launcher that does not answer is ill, and does not gather requests.
func TestMetricsOfHung(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	defer close(release)
	addr := serveMetrics(t, "127.0.0.1:0", func() Status { <-release; return Status{} })
	codes := make(chan string, 12)
	for range cap(codes) {
		go func() {
			code, body := get(t, addr, "/healthz", "")
			codes <- fmt.Sprint(code, " ", body)
		}()
	}
	count := map[string]int{}
	for range cap(codes) {
		count[<-codes]++
	}
	if count["503 the launcher does not answer\n"] != 8 || count["503 too many requests at the same time\n"] != 4 {
		t.Errorf("answers %v, want 8 and 4", count)
	}
}

// Who is slow, silent or too talkative is cut; others are served meanwhile.
func TestMetricsSlowClients(t *testing.T) {
	t.Parallel()
	addr := serveMetrics(t, "127.0.0.1:0", func() Status { return Status{State: Running} })
	var conns []net.Conn
	for i := range maxConnections + 36 {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if i%2 == 0 {
			_, _ = io.WriteString(conn, "GET /metrics HT")
		}
		conns = append(conns, conn)
	}
	begun := time.Now()
	for _, conn := range conns {
		must(conn.SetReadDeadline(begun.Add(5 * time.Second)))
		_, err := io.Copy(io.Discard, conn)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal("a silent connection is held for 5 s")
		}
	}
	t.Logf("%d silent connections were cut within %v", len(conns), time.Since(begun))
	if code, _ := get(t, addr, "/metrics", ""); code != 200 {
		t.Errorf("after slow clients: %d", code)
	}
	conn, err := net.Dial("tcp", addr)
	must(err)
	defer conn.Close()
	go func() {
		fmt.Fprintf(conn, "GET /metrics HTTP/1.1\r\nHost: localhost\r\nA: %s\r\n\r\n", strings.Repeat("a", 64<<10))
	}()
	if first, err := bufio.NewReader(conn).ReadString('\n'); !strings.Contains(first, " 431 ") {
		t.Errorf("64 KiB of header: %q, %v", first, err)
	}
}
