function __kancl_complete
    set -l typed (commandline -cp | string collect)
    kancl completion fish "$typed" 2>/dev/null
end
complete -c kancl -a '(__kancl_complete)'
