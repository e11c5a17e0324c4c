#compdef kancl
_kancl() {
    local -a found
    found=(${(f)"$($words[1] completion zsh "$LBUFFER" 2>/dev/null)"})
    if (( ! $#found )); then
        _files
        return
    fi
    compadd -Q -S '' -- ${(M)found:#*[=.]}
    compadd -Q -- ${found:#*[=.]}
}
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }
compdef _kancl kancl
