package main

import (
	"fmt"
	"strings"

	"github.com/wanrun/wanrun/internal/ends"
	"github.com/wanrun/wanrun/internal/settings"
)

const aboutCompletion = `To have it in every bash: wanrun completion bash > ~/.local/share/bash-completion/completions/wanrun
For zsh: wanrun completion zsh > a folder of $fpath, as _wanrun
For fish: wanrun completion fish > ~/.config/fish/completions/wanrun.fish
`

// completion prints a shell's script, made from the tables.
func completion(w world, args []string) error {
	parsed, done, err := w.parse("completion", args, 1)
	if err != nil || done {
		return err
	}
	scripts := map[string]func() string{"bash": bashScript, "zsh": zshScript, "fish": fishScript}
	shell := parsed.Positional[0]
	script, ok := scripts[shell]
	if !ok {
		return ends.Errorf(ends.Usage, "no completion for %q%s; one of bash, zsh, fish", shell, settings.Suggest("%s", shell, []string{"bash", "zsh", "fish"}))
	}
	fmt.Fprint(w.stdout, script())
	return nil
}

func commandNames() string {
	var names []string
	for _, c := range commands() {
		names = append(names, c.name)
	}
	return strings.Join(names, " ")
}

// bashScript completes values after a flag that has some, files after one that names a
// file, else flags and commands.
func bashScript() string {
	var cases strings.Builder
	for _, f := range settings.Flags() {
		switch {
		case f.Kind == settings.Choice:
			fmt.Fprintf(&cases, "    --%s) COMPREPLY=($(compgen -W %q -- \"$cur\")); return ;;\n", f.Name, strings.Join(f.Choices, " "))
		case f.Kind == settings.File:
			fmt.Fprintf(&cases, "    --%s) COMPREPLY=($(compgen -f -- \"$cur\")); return ;;\n", f.Name)
		case f.Kind == settings.Folder:
			fmt.Fprintf(&cases, "    --%s) COMPREPLY=($(compgen -d -- \"$cur\")); return ;;\n", f.Name)
		}
	}
	var flags []string
	for _, f := range settings.Flags() {
		flags = append(flags, "--"+f.Name)
	}
	return fmt.Sprintf(`# bash completion of wanrun
_wanrun() {
  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}
  COMPREPLY=()
  case $prev in
%s    inspect|-o) COMPREPLY=($(compgen -f -- "$cur")); return ;;
    completion) COMPREPLY=($(compgen -W "bash zsh fish" -- "$cur")); return ;;
  esac
  if [[ $cur == -* ]]; then
    COMPREPLY=($(compgen -W %q -- "$cur"))
  elif (( COMP_CWORD == 1 )); then
    COMPREPLY=($(compgen -W %q -- "$cur"))
  else
    COMPREPLY=($(compgen -f -- "$cur"))
  fi
}
complete -o filenames -F _wanrun wanrun
`, cases.String(), strings.Join(flags, " "), commandNames())
}

func zshScript() string {
	var b strings.Builder
	b.WriteString("#compdef wanrun\n_arguments -s \\\n")
	quote := strings.NewReplacer("'", `'\''`, "[", `\[`, "]", `\]`, ":", `\:`)
	for _, f := range settings.Flags() {
		fmt.Fprintf(&b, "  '--%s", f.Name)
		if f.TakesValue() {
			b.WriteString("=")
		}
		fmt.Fprintf(&b, "[%s]", quote.Replace(f.Help))
		switch f.Kind {
		case settings.Choice:
			fmt.Fprintf(&b, ":%s:(%s)", f.Name, strings.Join(f.Choices, " "))
		case settings.File:
			fmt.Fprintf(&b, ":file:_files")
		case settings.Folder:
			fmt.Fprintf(&b, ":folder:_files -/")
		case settings.Switch:
		default:
			fmt.Fprintf(&b, ":%s:", f.Name)
		}
		b.WriteString("' \\\n")
	}
	fmt.Fprintf(&b, "  '1::command:(%s)' '*::file:_files'\n", commandNames())
	return b.String()
}

func fishScript() string {
	var b strings.Builder
	quote := strings.NewReplacer(`\`, `\\`, "'", `\'`)
	for _, c := range commands() {
		fmt.Fprintf(&b, "complete -c wanrun -n __fish_use_subcommand -f -a %s -d '%s'\n", c.name, quote.Replace(c.help))
	}
	for _, f := range settings.Flags() {
		fmt.Fprintf(&b, "complete -c wanrun -l %s", f.Name)
		if f.Letter != "" {
			fmt.Fprintf(&b, " -s %s", f.Letter)
		}
		switch {
		case f.Kind == settings.Choice:
			fmt.Fprintf(&b, " -x -a '%s'", strings.Join(f.Choices, " "))
		case f.Kind == settings.File || f.Kind == settings.Folder:
			b.WriteString(" -r")
		case f.TakesValue():
			b.WriteString(" -x")
		}
		fmt.Fprintf(&b, " -d '%s'\n", quote.Replace(f.Help))
	}
	return b.String()
}
