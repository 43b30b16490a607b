from quantrac.main import main

main()
