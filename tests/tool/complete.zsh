# zsh complete.zsh SCRIPT LINE: what the completions in SCRIPT offer at the end of LINE, one offer a line.
#
# Completions work in an interactive shell only: one runs on a pseudo-terminal, is given the line and a tab, and its builtin
# that takes the offers writes them down between two lines that end in NUL.
zmodload zsh/zpty || exit 2
export COMPLETIONS=$1
setup=$(mktemp)
cat >$setup <<'SETUP'
PROMPT=
autoload -Uz compinit
compinit -u -d $HOME/.zcompdump
source $COMPLETIONS
bindkey '^I' complete-word
bindkey '^M' undefined-key
bindkey '^J' undefined-key
mark() { print -r -- $'\0' }
compprefuncs=(mark)
comppostfuncs=(mark exit)
zstyle ':completion:*' insert-tab false
compadd() {
    if [[ ${@[1,(i)(-|--)]} == *-(O|A|D)\ * ]]; then
        builtin compadd "$@"
        return
    fi
    typeset -a offers
    builtin compadd -O offers "$@"
    (( $#offers )) && print -rl -- $offers
    return $(( $#offers == 0 ))
}
print ready
SETUP
zpty shell zsh -f -i
zpty -w shell "source $setup"
repeat 20; do
    zpty -r shell line
    [[ $line == *ready* ]] && break
done
rm -f $setup
zpty -n -w shell "$2"$'\t'
marks=0
while zpty -r shell line; do
    print -r -- $line
done | while IFS= read -r line; do
    line=${line%$'\r'}
    if [[ $line == *$'\0' ]]; then
        (( marks++ )) && exit 0
        continue
    fi
    [[ -n $line ]] && (( marks )) && print -r -- $line
done
