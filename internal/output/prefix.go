package output

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/wanrun/wanrun/internal/node"
	"github.com/wanrun/wanrun/internal/settings"
)

// The prefixes of lines when --prefix is not given.
const (
	OneNodePrefix   = "[r{rank}] "
	ManyNodesPrefix = "[r{rank} {host}:{local}] "
)

// prefixFields are what a template may name.
var prefixFields = []string{"rank", "local", "node", "host", "stream", "time"}

// Where says where a rank lives.
type Where struct {
	Node, Local int
	Host        string // what people call the node
}

// Prefix makes what stands before each line of a rank. The zero value makes nothing.
type Prefix struct {
	parts []prefixPart
}

// prefixPart is a text, or a field if that is not "".
type prefixPart struct{ text, field string }

// ParsePrefix reads the value of --prefix: "none", or a template that may name {rank},
// {local}, {node}, {host}, {stream} and {time}. What else it has stands for itself, "{{"
// and "}}" for one brace.
func ParsePrefix(template string) (Prefix, error) {
	var p Prefix
	if template == "none" {
		return p, nil
	}
	var text strings.Builder
	for i := 0; i < len(template); i++ {
		c := template[i]
		switch {
		case (c == '{' || c == '}') && strings.HasPrefix(template[i+1:], string(c)):
			text.WriteByte(c)
			i++
		case c == '}':
			return Prefix{}, fmt.Errorf("--prefix %q: the } at byte %d closes nothing; write }} for a brace", template, i)
		case c == '{':
			name, _, closed := strings.Cut(template[i+1:], "}")
			if !closed || !slices.Contains(prefixFields, name) {
				return Prefix{}, fmt.Errorf("--prefix %q: {%s is none of {%s}; write {{ for a brace", template,
					settings.Shorten(name, 20), strings.Join(prefixFields, "}, {"))
			}
			p.parts = append(p.parts, prefixPart{text: settings.Escape(text.String())}, prefixPart{field: name})
			text.Reset()
			i += len(name) + 1
		default:
			text.WriteByte(c)
		}
	}
	p.parts = append(p.parts, prefixPart{text: settings.Escape(text.String())})
	return p, nil
}

// appendTo appends the prefix of a line.
func (p Prefix) appendTo(b []byte, line node.Line, where Where) []byte {
	for _, part := range p.parts {
		switch part.field {
		case "":
			b = append(b, part.text...)
		case "rank":
			b = strconv.AppendInt(b, int64(line.Rank), 10)
		case "local":
			b = strconv.AppendInt(b, int64(where.Local), 10)
		case "node":
			b = strconv.AppendInt(b, int64(where.Node), 10)
		case "host":
			b = append(b, settings.Escape(where.Host)...)
		case "stream":
			b = append(b, line.Stream...)
		case "time":
			b = line.At.AppendFormat(b, clockFormat)
		}
	}
	return b
}

// clockFormat is how times look on the console.
const clockFormat = "15:04:05.000"

// logFormat is how times look in launcher.log and in JSON.
const logFormat = time.RFC3339Nano

// numRankColours is how many colours tell ranks apart.
const numRankColours = 6

// appendColour begins the colour of a rank's prefix; that of stderr is bold. The black and
// white of a terminal are not among them.
func appendColour(b []byte, rank int, stream string) []byte {
	weight := "0"
	if stream == Stderr {
		weight = "1"
	}
	return fmt.Appendf(b, "\x1b[%s;%dm", weight, 31+(rank%numRankColours+numRankColours)%numRankColours)
}

const endColour = "\x1b[0m"
