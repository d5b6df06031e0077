package doctor

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"regexp"
	"strconv"
	"strings"

	"github.com/wanrun/wanrun/internal/settings"
)

// Bounds on what is read of each log.
const (
	// MaxLog is how much of a log is looked at: its beginning, which says what was asked for,
	// and its end, which says what went wrong.
	MaxLog   = 64 << 20
	headPart = 16 << 20
	maxLine  = 16 << 10 // of a longer line the beginning counts
	maxQuote = 240      // characters of a line in a finding
)

// Source is a log.
type Source struct {
	Name string
	Read io.Reader
	Rank int // whose it is alone, -1 for nobody's or not known
	// Cut says that Read leaves out the middle.
	Cut bool
}

// Excerpt returns the head and the tail of a file that is larger than MaxLog, or all of it.
func Excerpt(f io.ReaderAt, size int64) (r io.Reader, cut bool) {
	if size <= MaxLog {
		return io.NewSectionReader(f, 0, MaxLog), false // it may grow
	}
	tail := int64(MaxLog - headPart)
	return io.MultiReader(io.NewSectionReader(f, 0, headPart), strings.NewReader("\n"), io.NewSectionReader(f, size-tail, tail)), true
}

// line is one line of a log.
type line struct {
	source, number int
	rank           int    // -1: not known
	text           string // without colours and prefix
	lower          string
	class          string // of a JSON line of wanrun's that ends a run
}

// Read says how much of a log was looked at.
type Read struct {
	Name  string `json:"name"`
	Lines int    `json:"lines"`
	Bytes int64  `json:"bytes"`
	Cut   bool   `json:"cut"` // the middle, or what came after, was left out
	Error string `json:"error,omitempty"`
}

// scan hands on the lines of a log.
func scan(index int, s Source, emit func(line)) Read {
	info := Read{Name: settings.Shorten(s.Name, maxQuote), Cut: s.Cut}
	r := bufio.NewReaderSize(io.LimitReader(s.Read, MaxLog+1), maxLine)
	for {
		data, err := r.ReadSlice('\n')
		info.Bytes += int64(len(data))
		long := errors.Is(err, bufio.ErrBufferFull)
		if len(data) > 0 {
			info.Lines++
			// A progress bar writes over its line: each state is a line of its own, of which the last counts.
			for part := range bytes.SplitSeq(bytes.TrimRight(data, "\r\n"), []byte{'\r'}) {
				if l := newLine(index, info.Lines, s.Rank, part); l.text != "" {
					emit(l)
				}
			}
		}
		for long { // the rest of it
			data, err = r.ReadSlice('\n')
			info.Bytes += int64(len(data))
			long = errors.Is(err, bufio.ErrBufferFull)
		}
		if info.Bytes > MaxLog {
			info.Cut = true
			return info
		}
		if err != nil {
			if !errors.Is(err, io.EOF) {
				info.Error = settings.Shorten(err.Error(), maxQuote)
			}
			return info
		}
	}
}

var (
	colours = regexp.MustCompile(`\x1b\[[0-9;?]*[A-Za-z]`)
	// "[rank3]: " is torch's, "[default3]:" torchrun's --tee, "[r3]" wanrun's, "3: " srun's --label.
	ofRank  = regexp.MustCompile(`^(?:\[(?:rank|default|r)(\d{1,6})\]:? ?|\s{0,4}(\d{1,5}): )`)
	logRank = regexp.MustCompile(`rank_(\d{1,6})\.(?:out|err)`)
)

func newLine(source, number, rank int, data []byte) line {
	text := strings.ToValidUTF8(string(data), "\uFFFD")
	if strings.ContainsRune(text, '\x1b') {
		text = colours.ReplaceAllString(text, "")
	}
	l := line{source: source, number: number, rank: rank, text: strings.TrimRight(text, " \t")}
	if m := prefix(l.text); m != nil {
		if n, err := strconv.Atoi(m[1] + m[2]); err == nil {
			l.rank, l.text = n, l.text[len(m[0]):]
		}
	}
	if strings.HasPrefix(l.text, `{"`) {
		l.fromJSON()
	}
	l.lower = strings.ToLower(l.text)
	return l
}

// prefix finds a rank in front of a line.
func prefix(text string) []string {
	if text == "" || text[0] != '[' && text[0] != ' ' && (text[0] < '0' || text[0] > '9') {
		return nil
	}
	return ofRank.FindStringSubmatch(text)
}

// fromJSON takes a line of wanrun --log-format json, or of a worker.
func (l *line) fromJSON() {
	var j struct {
		Rank  *int   `json:"rank"`
		Msg   string `json:"msg"`
		Error string `json:"error"`
		Level string `json:"level"`
		Class string `json:"class"`
	}
	if json.Unmarshal([]byte(l.text), &j) != nil || j.Level == "" {
		return
	}
	if l.text = j.Msg; j.Error != "" {
		l.text += ": " + j.Error
	}
	if j.Rank != nil && *j.Rank >= 0 {
		l.rank = *j.Rank
	}
	l.class = j.Class
}

// rankOfName returns the rank whose log has such a name, -1 if it does not say.
func rankOfName(name string) int {
	if m := logRank.FindStringSubmatch(name); m != nil {
		if n, err := strconv.Atoi(m[1]); err == nil {
			return n
		}
	}
	return -1
}
