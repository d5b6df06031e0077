package settings

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"github.com/wanrun/wanrun/internal/ends"
)

// MaxConfigBytes bounds a configuration file; a prompt of 1 MB fits.
const MaxConfigBytes = 2 << 20

// readConfig reads a configuration file: a YAML mapping of flag names, in any of their
// spellings, to plain values. Errors name the line.
func readConfig(flags []Flag, path string, data []byte) (map[string]Given, error) {
	name := filepath.Base(path)
	if len(data) > MaxConfigBytes {
		return nil, fmt.Errorf("%s: more than %d bytes", name, MaxConfigBytes)
	}
	if !utf8.Valid(data) {
		return nil, fmt.Errorf("%s: not UTF-8", name)
	}
	tokens := lexer.Tokenize(string(data))
	if err := checkFlat(tokens); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	file, err := parser.Parse(tokens, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: %s", name, yamlError(err))
	}
	given := map[string]Given{}
	for i, doc := range file.Docs {
		if i > 0 {
			return nil, fmt.Errorf("%s: more than one YAML document", name)
		}
		entries, err := mapping(doc.Body)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		for _, entry := range entries {
			if err := addEntry(flags, name, entry, given); err != nil {
				return nil, err
			}
		}
	}
	return given, nil
}

// checkFlat refuses whatever YAML has beyond lines of KEY: VALUE, before the parser
// follows it to any depth.
func checkFlat(tokens token.Tokens) error {
	keyLine := 0 // of the last key
	for _, tk := range tokens {
		at := tk.Position.Line
		switch tk.Type {
		case token.SequenceStartType, token.MappingStartType, token.SequenceEntryType, token.MappingKeyType:
			return fmt.Errorf("line %d: lists and nested values are not allowed; quote text that begins with [, { or -", at)
		case token.AnchorType, token.AliasType, token.TagType, token.MergeKeyType, token.DirectiveType:
			return fmt.Errorf("line %d: anchors, aliases, tags and directives are not allowed; quote text that begins with &, *, ! or %%", at)
		case token.MappingValueType:
			if at == keyLine {
				return fmt.Errorf("line %d: two keys; quote text that has a colon in it", at)
			}
			keyLine = at
		}
	}
	return nil
}

// yamlError is the first line of the parser's message, which goes on with the source.
func yamlError(err error) string {
	first, _, _ := strings.Cut(err.Error(), "\n")
	return Escape(first)
}

func mapping(body ast.Node) ([]*ast.MappingValueNode, error) {
	switch n := body.(type) {
	case nil:
		return nil, nil // an empty file sets nothing
	case *ast.MappingNode:
		return n.Values, nil
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{n}, nil
	case *ast.CommentGroupNode, *ast.NullNode:
		return nil, nil
	default:
		return nil, errors.New("want lines of KEY: VALUE, as in \"steps: 40\"")
	}
}

func addEntry(flags []Flag, file string, entry *ast.MappingValueNode, given map[string]Given) error {
	keyNode, ok := entry.Key.(*ast.StringNode)
	if !ok {
		return fmt.Errorf("%s:%d: a key is not plain text", file, line(entry.Key))
	}
	key := dashed(keyNode.Value)
	where := fmt.Sprintf("%s:%d: %s", file, line(entry.Key), Escape(keyNode.Value))
	f, ok := lookup(flags, key)
	if !ok {
		return fmt.Errorf("%s: unknown key%s", where, Suggest("%s", key, configKeys(flags)))
	}
	if f.Local {
		return fmt.Errorf("%s: only the command line sets this", where)
	}
	if f.Name == "config" {
		return fmt.Errorf("%s: a configuration file cannot name another", where)
	}
	text, err := scalar(entry.Value)
	if err != nil {
		return fmt.Errorf("%s: %w", where, err)
	}
	if earlier, twice := given[f.Name]; twice {
		return fmt.Errorf("%s: set before, as %s", where, earlier.From)
	}
	given[f.Name] = Given{Text: text, From: where, rank: rankConfig}
	return nil
}

// configKeys lists the spellings that a configuration file may use.
func configKeys(flags []Flag) []string {
	var keys []string
	for _, f := range flags {
		if !f.Local && f.Name != "config" {
			keys = append(append(keys, f.Name), f.Other...)
		}
	}
	return keys
}

func line(n ast.Node) int {
	if tk := n.GetToken(); tk != nil && tk.Position != nil {
		return tk.Position.Line
	}
	return 0
}

// scalar is the text of a plain value, as it is written: numbers are read where
// their flag is.
func scalar(n ast.Node) (string, error) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, nil
	case *ast.LiteralNode:
		if n.Value == nil {
			return "", errors.New("no value")
		}
		return n.Value.Value, nil
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		return strings.TrimSpace(tokenText(n.GetToken())), nil
	case *ast.NullNode, nil:
		return "", errors.New("no value; write \"\" for an empty one")
	default:
		return "", errors.New("want one plain value")
	}
}

func tokenText(tk *token.Token) string {
	if tk == nil {
		return ""
	}
	return tk.Value
}

// layer puts above over below.
func layer(above, below map[string]Given) map[string]Given {
	all := map[string]Given{}
	for name, g := range below {
		all[name] = g
	}
	for name, g := range above {
		all[name] = g
	}
	return all
}

// readEnv takes the settings from environment variables by any spelling of
// their names. Empty ones count as not set. strange are variables of our prefix
// that set nothing, with what may have been meant.
func readEnv(flags []Flag, environ []string) (given map[string]Given, strange []string, err error) {
	given = map[string]Given{}
	byName := map[string]Flag{}
	var names []string
	for _, f := range flags {
		if f.Local {
			continue
		}
		for _, spelling := range append([]string{f.Name}, f.Other...) {
			byName[envName(spelling)] = f
			names = append(names, envName(spelling))
		}
	}
	for _, pair := range environ {
		name, text, _ := strings.Cut(pair, "=")
		if !strings.HasPrefix(name, envPrefix) || isWorkerEnv(name) || text == "" {
			continue
		}
		f, ok := byName[name]
		if !ok {
			strange = append(strange, fmt.Sprintf("%s is not a setting%s", Escape(name), Suggest("%s", name, names)))
			continue
		}
		if earlier, twice := given[f.Name]; twice && earlier.Text != text {
			return nil, nil, ends.Errorf(ends.Usage, "%s and %s set the same, to %q and %q; keep one", earlier.From, name, earlier.Text, text)
		}
		given[f.Name] = Given{Text: text, From: name, rank: rankEnv}
	}
	return given, strange, nil
}

const envPrefix = "WANRUN_"

// isWorkerEnv tells the variables that launcher and worker have between them.
func isWorkerEnv(name string) bool {
	switch name {
	case "WANRUN_CONTROL", "WANRUN_TOKEN", "WANRUN_RANK", "WANRUN_WORLD_SIZE", "WANRUN_LOCAL_RANK", "WANRUN_LOCAL_WORLD_SIZE", "WANRUN_LOG_LEVEL",
		"WANRUN_SECRET", "WANRUN_ERROR_FILE", "WANRUN_RESTART_COUNT", "WANRUN_JOB", "WANRUN_ROOT_FD":
		return true
	default:
		return false
	}
}
