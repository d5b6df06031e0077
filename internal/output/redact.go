package output

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
)

// hidden stands where a secret was.
const hidden = "<redacted>"

const (
	// minSecret is the length in bytes below which a variable's value is not looked for: "1"
	// and "true" are no secrets, and taking them out of all lines would spoil them.
	minSecret = 6
	// maxSecrets bounds how many values are looked for.
	maxSecrets = 256
)

// secretName finds names of variables and parameters that hold secrets, whatever stands
// before or after in the name.
const secretName = `(?i:[\w.-]*(?:token|secret|password|passwd|pwd|passphrase|credential|api_?key|access_?key|private_?key|auth_?key|signature)[\w.-]*)`

var (
	isSecretName = regexp.MustCompile(`^` + secretName + `$`)
	// assignment is NAME=value, "name": "value", ?name=value and --name value.
	assignment = regexp.MustCompile(`(` + secretName + `["']?(?:\s*[=:]\s*|%3[dD]))("[^"]*"|'[^']*'|[^\s&,;"'}\])]+)`)
	flagValue  = regexp.MustCompile(`(--` + secretName + `\s+)([^\s-]\S*)`)
	// urlUser is what stands before the host of an address.
	urlUser = regexp.MustCompile(`([A-Za-z][A-Za-z0-9+.-]*://)[^\s/?#@]+@`)
	// bearer is an HTTP header's value; sig is a signed address's.
	bearer = regexp.MustCompile(`(?i)\b((?:bearer|basic)\s+)[A-Za-z0-9._~+/=-]{8,}`)
	urlSig = regexp.MustCompile(`([?&](?i:sig|key|auth|code)=)[^\s&#"']+`)
	// wellKnown are tokens that tell by themselves what they are: of Hugging Face, GitHub,
	// GitLab, Slack, OpenAI and Anthropic, AWS, Weights & Biases.
	wellKnown = regexp.MustCompile(`\b(?:hf_[A-Za-z0-9]{16,}|gh[pousr]_[A-Za-z0-9]{16,}|github_pat_\w{16,}|glpat-[\w-]{16,}|xox[abpr]-[\w-]{10,}|sk-[\w-]{20,}|AKIA[0-9A-Z]{16}|wandb_v\d_\w{16,})`)
)

// hints are parts, in lower case, of all that the patterns can find: a line without any is
// not searched further, which is most lines.
var hints = []string{"token", "secret", "passw", "passphrase", "credential", "apikey", "api_key", "accesskey", "access_key",
	"privatekey", "private_key", "authkey", "auth_key", "signature", "pwd", "://", "bearer", "basic", "sig=", "key=", "auth=", "code=",
	"hf_", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "xox", "sk-", "akia", "wandb_v"}

// Redactor takes secrets out of text. A nil one takes nothing.
type Redactor struct {
	values *strings.Replacer
}

// NewRedactor knows the values of those variables of env ("NAME=value") whose names are
// like those of secrets.
func NewRedactor(env []string) *Redactor {
	var values []string
	for _, entry := range env {
		name, value, _ := strings.Cut(entry, "=")
		if len(value) >= minSecret && isSecretName.MatchString(name) {
			values = append(values, value)
		}
	}
	// The longest first: one may be a part of another.
	slices.SortFunc(values, func(a, b string) int { return cmp.Or(cmp.Compare(len(b), len(a)), cmp.Compare(a, b)) })
	values = slices.Compact(values)
	var pairs []string
	for _, value := range values[:min(len(values), maxSecrets)] {
		pairs = append(pairs, value, hidden)
	}
	return &Redactor{strings.NewReplacer(pairs...)}
}

// Redact returns text without the secrets that can be told: values of the environment's
// secret variables, what is assigned to a name like theirs, users and tokens in
// addresses, HTTP credentials, and tokens of a well-known form. One that is cut over two
// lines is not found.
func (r *Redactor) Redact(text string) string {
	if r == nil {
		return text
	}
	text = r.values.Replace(text)
	lower := strings.ToLower(text)
	if !slices.ContainsFunc(hints, func(hint string) bool { return strings.Contains(lower, hint) }) {
		return text
	}
	text = urlUser.ReplaceAllString(text, "${1}"+hidden+"@")
	text = wellKnown.ReplaceAllString(text, hidden)
	text = bearer.ReplaceAllString(text, "${1}"+hidden)
	text = urlSig.ReplaceAllString(text, "${1}"+hidden)
	text = flagValue.ReplaceAllString(text, "${1}"+hidden)
	return assignment.ReplaceAllString(text, "${1}"+hidden)
}
