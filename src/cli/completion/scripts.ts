export type Shell = "bash" | "zsh" | "fish";

/**
 * What the scripts get from `stitch complete -- WORD…` when file names are to be completed. Any other line is a suggestion,
 * and after a tab what it means.
 */
export const FILES_LINE = ":files";

/** Also for bash 3.2, which macOS has: no `mapfile`; and `compopt` is allowed to be missing. */
const BASH = `# Completion of stitch for bash: eval "$(stitch completion bash)"
_stitch() {
  local line="\${COMP_LINE:0:COMP_POINT}" current prefix suggestion
  local -a words
  COMPREPLY=()
  # COMP_WORDS would cut n1:orders-1 into three.
  read -r -a words <<<"$line"
  [[ $line == *[[:space:]] ]] && words+=("")
  current="\${words[\${#words[@]}-1]}"
  # Readline replaces only what comes after the last of these.
  prefix=""
  [[ $COMP_WORDBREAKS == *:* && $current == *:* ]] && prefix="\${current%:*}:"
  [[ $COMP_WORDBREAKS == *=* && $current == *=* && -z $prefix ]] && prefix="\${current%%=*}="
  while IFS= read -r suggestion; do
    if [[ $suggestion == ${FILES_LINE} ]]; then
      compopt -o filenames 2>/dev/null
      while IFS= read -r suggestion; do COMPREPLY+=("$suggestion"); done < <(compgen -f -- "$current")
      return
    fi
    suggestion="\${suggestion%%$'\\t'*}"
    COMPREPLY+=("\${suggestion#"$prefix"}")
  done < <(stitch complete -- "\${words[@]:1}" 2>/dev/null)
}
complete -F _stitch stitch
`;

const ZSH = `#compdef stitch
# Completion of stitch for zsh: eval "$(stitch completion zsh)", or this text as _stitch in a folder of $fpath.
_stitch() {
  local line
  local -a lines entries
  lines=("\${(@f)$(stitch complete -- "\${(@Q)words[2,CURRENT-1]}" "$PREFIX" 2>/dev/null)}")
  for line in "\${(@)lines}"; do
    if [[ $line == ${FILES_LINE} ]]; then
      _files
      return
    fi
    [[ -n $line ]] && entries+=("\${\${line%%$'\\t'*}//:/\\\\:}:\${line#*$'\\t'}")
  done
  (( $#entries )) && _describe stitch entries
}
if [[ $funcstack[1] == _stitch ]]; then
  _stitch "$@"
else
  (( $+functions[compdef] )) || { autoload -Uz compinit && compinit; }
  compdef _stitch stitch
fi
`;

const FISH = `# Completion of stitch for fish: stitch completion fish | source
function __stitch_complete
    set -l words (commandline -opc) (commandline -ct)
    set -l lines (stitch complete -- $words[2..] 2>/dev/null)
    if test "$lines" = ${FILES_LINE}
        __fish_complete_path (commandline -ct)
    else
        printf '%s\\n' $lines
    end
end
complete -c stitch -f -a '(__stitch_complete)'
`;

export const SCRIPTS: Readonly<Record<Shell, string>> = { bash: BASH, zsh: ZSH, fish: FISH };
