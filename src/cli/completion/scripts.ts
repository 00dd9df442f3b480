export type Shell = "bash" | "zsh" | "fish";

/**
 * What the scripts get from `stitch complete -- WORD…` when file names are to be completed. Any other line is a suggestion,
 * and after a tab what it means.
 */
export const FILES_LINE = ":files";

/** Also for bash 3.2, which macOS has: no `mapfile`; and `compopt` is allowed to be missing. */
const BASH = `# Completion of stitch for bash: eval "$(stitch completion bash)"
# Sets words to those of the line $1, without their quotes. COMP_WORDS would cut n1:orders-1 into three.
_stitch_words() {
  # Before any other character, a backslash in double quotes stands for itself.
  local escaped='"\\$\`' char next word="" quote="" begun=""
  local -i at
  words=()
  for ((at = 0; at < \${#1}; at++)); do
    char="\${1:at:1}"
    if [[ -z $quote && $char == [[:space:]] ]]; then
      [[ -n $begun ]] && words+=("$word")
      word="" begun=""
      continue
    fi
    begun=1
    if [[ $char == \\\\ && $quote != \\' ]]; then
      at+=1
      next="\${1:at:1}"
      [[ -n $quote && $escaped != *"$next"* ]] && word+=\\\\
      word+="$next"
    elif [[ -n $quote && $char == "$quote" ]]; then
      quote=""
    elif [[ -z $quote && ($char == \\" || $char == \\') ]]; then
      quote="$char"
    else
      word+="$char"
    fi
  done
  # The word under the cursor: its quote may be open, and it may be empty.
  words+=("$word")
}
_stitch() {
  local current replaced="$2" prefix="" suggestion
  local -a words
  COMPREPLY=()
  _stitch_words "\${COMP_LINE:0:COMP_POINT}"
  current="\${words[\${#words[@]}-1]}"
  # Readline replaces only a part of the word, such as what comes after the colon in n1:orders-1.
  [[ $current == *"$replaced" ]] || replaced="\${replaced//\\\\/}"
  [[ $current == *"$replaced" ]] && prefix="\${current%"$replaced"}"
  while IFS= read -r suggestion; do
    if [[ $suggestion == ${FILES_LINE} ]]; then
      # What readline does where there is no script: it knows how to quote names.
      compopt -o default 2>/dev/null && return
      while IFS= read -r suggestion; do COMPREPLY+=("$suggestion"); done < <(compgen -f -- "$2")
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
  lines=("\${(@f)$(stitch complete -- "\${(@Q)words[2,CURRENT-1]}" "\${(Q)PREFIX}" 2>/dev/null)}")
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
    # The word under the cursor comes as it was typed, with its quotes.
    set -l current (string unescape -- (commandline -ct))
    set -l words (commandline -opc) "$current"
    set -l lines (stitch complete -- $words[2..] 2>/dev/null)
    if test "$lines" = ${FILES_LINE}
        __fish_complete_path "$current"
    else
        printf '%s\\n' $lines
    end
end
complete -c stitch -f -a '(__stitch_complete)'
`;

export const SCRIPTS: Readonly<Record<Shell, string>> = { bash: BASH, zsh: ZSH, fish: FISH };
